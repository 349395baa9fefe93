// What all views of the status page use: elements, numbers, the API. What comes
// from clients is put into the page as text only.

export const $ = (selector, root = document) => root.querySelector(selector)

// element makes one, with properties and children; strings become text.
export function element(tag, properties = {}, ...children) {
  const e = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes('-') || name === 'role' || name === 'scope') e.setAttribute(name, value)
    else if (value !== undefined) e[name] = value
  }
  e.append(...children.filter((c) => c !== undefined && c !== null).map((c) => (c instanceof Node ? c : String(c))))
  return e
}

// cell is a table's; it is given as text or as [text, class].
const cell = (c) => {
  if (c instanceof Node) return element('td', {}, c)
  return Array.isArray(c) ? element('td', { className: c[1] }, c[0]) : element('td', {}, c)
}
export const row = (...cells) => element('tr', {}, ...cells.map(cell))

export function fill(table, rows, none) {
  const columns = table.querySelectorAll('thead th').length
  table.tBodies[0].replaceChildren(...(rows.length || !none ? rows : [element('tr', { className: 'empty' }, element('td', { colSpan: columns }, none))]))
}

const units = (v, steps, names) => {
  let i = 0
  while (i < names.length - 1 && Math.abs(v) >= steps) { v /= steps; i++ }
  const digits = v >= 100 || Number.isInteger(v) ? 0 : v >= 10 ? 1 : 2
  return [v.toFixed(digits), names[i]]
}
export const count = (v) => (v < 10000 ? Math.round(v).toLocaleString('en') : units(v, 1000, ['', 'k', 'M', 'G']).join(''))
export const perSecond = (v) => (v < 10000 ? (v < 10 && v > 0 ? v.toFixed(1) : Math.round(v).toLocaleString('en')) : units(v, 1000, ['', 'k', 'M', 'G']).join(''))
export const bytes = (v) => units(v, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']).join(' ')
export const seconds = (v) => (v === 0 ? '–' : v < 1e-3 ? Math.round(v * 1e6) + ' µs' : v < 1 ? (v * 1e3).toFixed(v < 0.01 ? 2 : 1) + ' ms' : v.toFixed(2) + ' s')
export function since(time) {
  let s = Math.max(0, (Date.now() - new Date(time)) / 1000)
  for (const [unit, size] of [['d', 86400], ['h', 3600], ['min', 60]]) if (s >= size) return Math.floor(s / size) + ' ' + unit
  return Math.floor(s) + ' s'
}
// Times as on the axes of the charts.
export const clock = (time) => new Date(time).toLocaleString(undefined, { dateStyle: 'short', timeStyle: 'medium', hourCycle: 'h23' })
export const timeOfDay = (time) => new Date(time).toLocaleTimeString(undefined, { hourCycle: 'h23' })

// The API, with the token of this tab.
export const store = { get: () => { try { return sessionStorage.getItem('token') } catch { return store.token } }, set: (t) => { store.token = t; try { sessionStorage.setItem('token', t) } catch {} } }
export class Refused extends Error {}

export async function call(method, path, { query = {}, body } = {}) {
  const parameters = new URLSearchParams(Object.entries(query).filter(([, v]) => v !== '' && v !== undefined))
  const headers = { Authorization: 'Bearer ' + (store.get() ?? '') }
  if (body) headers['Content-Type'] = 'application/json'
  const answer = await fetch('api/v1/' + path + (parameters.size ? '?' + parameters : ''), { method, headers, body: body && JSON.stringify(body), cache: 'no-store' })
  if (answer.status === 204 || answer.status === 202) return null
  const value = await answer.json().catch(() => ({}))
  if (answer.status === 401) {
    store.set('')
    showToken()
    throw new Refused('Sign in to see this.')
  }
  if (!answer.ok) throw new Error(value.detail || value.title || 'The gateway answered ' + answer.status)
  return value
}

export function confirmed(question) {
  const dialog = $('#confirm')
  $('#confirm-text').textContent = question
  dialog.returnValue = ''
  dialog.showModal()
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(dialog.returnValue === 'ok'), { once: true }))
}

// signIn asks for the token; what is shown is then loaded again.
export function signIn() {
  const dialog = $('#sign-in'), input = $('input', dialog)
  if (dialog.open) return
  input.value = ''
  dialog.returnValue = ''
  dialog.showModal()
  dialog.addEventListener('close', () => {
    if (dialog.returnValue === 'ok' && input.value) {
      store.set(input.value)
      input.value = ''
      showToken()
      document.dispatchEvent(new Event('signed-in'))
    }
  }, { once: true })
}

export function showToken() { $('#token-button').textContent = store.get() ? 'Sign out' : 'Sign in' }

export const state = { status: null }

// needsToken says whether a view can load; if not, it says why.
export function needsToken(note) {
  if (state.status && !state.status.api) {
    note.textContent = 'This needs the API: set HTTP_TOKEN for the gateways.'
    return true
  }
  if (!store.get()) {
    note.textContent = 'Sign in to see this.'
    signIn()
    return true
  }
  return false
}
