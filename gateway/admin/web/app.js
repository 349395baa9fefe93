// The status page: the overview, which everybody may see, and the frame of the
// other views.
import { $, bytes, count, element, fill, perSecond, row, seconds, showToken, signIn, since, state, store, timeOfDay } from './ui.js'
import { views } from './views.js'

const tile = (name, value, unit, sub, alert) => element('div', { className: 'tile' + (alert ? ' alert' : '') },
  element('dl', { style: undefined }, element('dt', {}, name), element('dd', {}, value, unit ? element('small', {}, unit) : '')), element('div', { className: 'sub' }, sub || '\u00a0'))

function drawTiles(s) {
  const t = s.totals, up = s.gateways.filter((g) => g.answered).length
  $('#tiles').replaceChildren(
    tile('Connections', count(t.connections), '', `${count(t.sessions)} sessions`),
    tile('Messages in', perSecond(t.in), '/s', bytes(t.bytes_in) + '/s'),
    tile('Messages out', perSecond(t.out), '/s', bytes(t.bytes_out) + '/s'),
    tile('Publish to ack', seconds(t.ack_seconds), '', 'QoS 1 and 2, mean'),
    tile('Waiting', count(t.backlog + t.queued), '', `${count(t.in_flight)} in flight`),
    tile('Dropped', perSecond(t.dropped), '/s', `${count(s.drops.reduce((n, d) => n + d.total, 0))} since start`, t.dropped > 0),
    tile('Subscriptions', count(t.subscriptions), '', `${count(t.retained)} retained, ${bytes(t.retained_bytes)}`),
    tile('Gateways', up, s.gateways.length === up ? '' : 'of ' + s.gateways.length, s.self && 'this is ' + s.self, up < s.gateways.length),
  )
}

const dark = matchMedia('(prefers-color-scheme: dark)')

// drawCharts loads the charts that are new, and swaps each in when it is
// complete, so that nothing flickers.
function drawCharts(s) {
  const box = $('#charts')
  if (box.children.length !== s.charts.length) {
    box.replaceChildren(...s.charts.map((c) => element('figure', { className: 'card chart', style: undefined, id: 'chart-' + c.name },
      element('h2', {}, c.title), element('img', { alt: c.title + ', the last half hour', width: 640, height: 210 }))))
    for (const f of box.children) f.classList.add('chart')
  }
  for (const c of s.charts) {
    const old = $('#chart-' + c.name + ' img')
    const width = Math.max(240, Math.round(old.clientWidth / 20) * 20 || 640)
    const url = `charts/${c.name}.svg?width=${width}&dark=${dark.matches ? 1 : 0}&at=${s.revision}`
    if (old.dataset.url === url) continue
    const img = element('img', { alt: old.alt, width, height: 210, src: url })
    img.dataset.url = url
    img.decode().then(() => $('#chart-' + c.name + ' img').replaceWith(img), () => {})
  }
}

function gatewayState(g) {
  if (g.lease_seconds < 0) return ['lease ended', 'bad']
  if (!g.answered) return ['silent', 'warn']
  return g.ready ? ['ready', 'good'] : ['not ready: ' + g.not_ready, 'bad']
}

function drawTables(s) {
  fill($('#gateways'), s.gateways.map((g) => {
    const [text, kind] = gatewayState(g)
    const name = element('span', { className: 'id' }, g.id)
    const figures = g.answered ? [[count(g.connections), 'n'], [perSecond(g.in), 'n'], [perSecond(g.out), 'n'], [count(g.backlog + g.queued), 'n'], [bytes(g.heap_bytes), 'n'], since(g.started), g.version] : [['–', 'n'], ['–', 'n'], ['–', 'n'], ['–', 'n'], ['–', 'n'], '–', '–']
    return row(name, element('span', { className: 'badge ' + kind }, text), ...figures)
  }), 'None that the store knows of.')
  fill($('#drops'), s.drops.map((d) => row(d.reason.replaceAll('_', ' '), [count(d.total), 'n'], [perSecond(d.rate), 'n'])), 'None.')
  $('#events').replaceChildren(...(s.events.length ? s.events.map((e) => element('li', {}, element('time', { dateTime: e.at }, timeOfDay(e.at)), element('span', { className: 'id' }, e.gateway), element('span', { className: 'quiet' }, e.what))) : [element('li', { className: 'quiet' }, 'Nothing since this gateway started.')]))
}

function drawState(s) {
  const ready = $('#ready')
  ready.textContent = s.ready ? 'ready' : 'not ready'
  ready.className = 'badge ' + (s.ready ? 'good' : 'bad')
  ready.title = s.not_ready ?? ''
  $('#version').textContent = s.version
  notice(s.ready ? (s.stale ? 'The figures are old: store or bus do not answer.' : '') : 'Not ready: ' + s.not_ready)
}

function notice(text) {
  const n = $('#notice')
  if (n.textContent !== text) n.textContent = text
  n.hidden = !text
}

let timer = 0

// refresh shows the newest figures, and comes back.
async function refresh() {
  clearTimeout(timer)
  timer = setTimeout(refresh, 2000)
  if (document.hidden && state.status) return
  try {
    const answer = await fetch('status.json', { cache: 'no-store' })
    if (!answer.ok) throw new Error('status ' + answer.status)
    const s = (state.status = await answer.json())
    drawState(s)
    $('#token-button').hidden = !s.api
    views.status?.(s)
    if (!$('#overview').hidden) {
      drawTiles(s)
      drawTables(s)
      drawCharts(s)
    }
  } catch {
    const ready = $('#ready')
    ready.textContent = 'no answer'
    ready.className = 'badge bad'
    notice('This gateway does not answer. The figures are those of before.')
  }
}

// show opens the view that the address names.
function show() {
  const name = location.hash.slice(1).split('/')[0]
  const view = document.getElementById(name)?.matches('main > section') ? name : 'overview'
  for (const s of document.querySelectorAll('main > section')) s.hidden = s.id !== view
  for (const a of document.querySelectorAll('nav a')) {
    if (a.hash === '#' + view) a.setAttribute('aria-current', 'page')
    else a.removeAttribute('aria-current')
  }
  document.title = (view === 'overview' ? '' : $('#' + view + '-title').textContent + ' · ') + 'Sluice'
  views[view]?.()
  if (view === 'overview') refresh()
}

$('#token-button').addEventListener('click', () => {
  if (!store.get()) return signIn()
  store.set('')
  showToken()
  location.reload()
})
addEventListener('hashchange', show)
dark.addEventListener('change', refresh)
document.addEventListener('visibilitychange', () => document.hidden || refresh())
document.addEventListener('signed-in', show)
showToken()
refresh().then(show)
