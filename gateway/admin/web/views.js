// The views that need the API, and the small MQTT client.
import { $, bytes, call, clock, confirmed, count, element, fill, needsToken, row, seconds, since, state, timeOfDay } from './ui.js'
import { Client, readable, reasonText } from './mqtt.js'

export const views = {}

const say = (id, text) => { $('#' + id).textContent = text }

// tried runs what may fail, and says so in a note.
async function tried(note, run) {
  say(note, '')
  try {
    await run()
  } catch (e) {
    say(note, e.message)
  }
}

const values = (form) => Object.fromEntries(new FormData(form))
const on = (id, event, run) => $('#' + id).addEventListener(event, (e) => { e.preventDefault(); run(e) })

// Clients. A search reads pages until it has found enough, or has looked far.
const wanted = 50, farEnough = 40
let search = 0, cursor = ''

async function listClients(more) {
  const mine = ++search, table = $('#client-list'), query = { ...values($('#search')), limit: 100 }
  if (needsToken($('#client-note'))) return
  await tried('client-note', async () => {
    const found = new Map(more ? shown : [])
    let next = more ? cursor : '', pages = 0
    const before = found.size
    do {
      const page = await call('GET', 'clients', { query: { ...query, cursor: next } })
      if (mine !== search) return // another search has begun
      for (const c of page.clients) found.set(c.id, c)
      next = page.next ?? ''
    } while (next && found.size < before + wanted && ++pages < farEnough)
    shown = found
    cursor = next
    fill(table, [...found.values()].sort((a, b) => (a.id < b.id ? -1 : 1)).map(clientRow), next ? 'None so far.' : 'None.')
    $('#client-more').hidden = !next
    say('client-note', `${count(found.size)} ${found.size === 1 ? 'session' : 'sessions'}${next ? ', there are more' : ''}`)
  })
}
let shown = new Map()

function clientRow(c) {
  const open = element('button', { type: 'button', className: 'id' }, c.id)
  const tr = row(open, element('span', { className: 'badge ' + (c.connected ? 'good' : '') }, c.connected ? c.gateway : 'away'), [c.connection?.user ?? '', 'id'], [c.connection?.remote ?? '', 'id'], c.connection?.version ?? '', [count(c.subscriptions), 'n'], [count(c.backlog), 'n'])
  tr.cells[0].className = 'id'
  tr.className = 'pick'
  tr.addEventListener('click', () => detail(c.id, tr))
  return tr
}

const facts = (pairs) => element('dl', {}, ...pairs.filter(([, v]) => v !== undefined && v !== '').flatMap(([k, v]) => [element('dt', {}, k), element('dd', {}, v)]))

async function detail(id, tr) {
  const box = $('#client-detail')
  for (const r of $('#client-list').tBodies[0].rows) r.removeAttribute('aria-selected')
  tr?.setAttribute('aria-selected', 'true')
  const note = element('p', { className: 'quiet', role: 'status' })
  try {
    const { client: c, subscriptions } = await call('GET', 'client', { query: { id } })
    const n = c.connection
    const act = (label, kind, question, run) => element('button', {
      type: 'button', className: kind, onclick: async () => {
        if (question && !(await confirmed(question))) return
        try {
          note.textContent = (await run()) || 'Done.'
          listClients()
        } catch (e) { note.textContent = e.message }
      },
    }, label)
    box.replaceChildren(
      element('h2', { className: 'id' }, c.id),
      facts([
        ['State', c.connected ? 'connected to ' + c.gateway : 'not connected'],
        ['Since', n && `${clock(n.since)}, ${since(n.since)}`], ['User', n?.user], ['Identity', c.principal], ['Address', n?.remote], ['Listener', n?.listener],
        ['MQTT', n?.version], ['Keep alive', n && n.keep_alive_seconds + ' s'],
        ['Session', c.durable ? 'durable, ' + (c.expiry_seconds === 4294967295 ? 'never expires' : 'expires ' + c.expiry_seconds + ' s after it is left') : 'ends with the connection'],
        ['Expires', c.ends && clock(c.ends)], ['Backlog', count(c.backlog)], ['In flight', n && `${n.in_flight}, ${n.queued} queued, ${bytes(n.outbox_bytes)} to write`],
        ['Will', c.will ? 'yes' : 'no'], ['Trace', n?.traced ? 'on' : undefined],
      ]),
      element('div', { className: 'pair' },
        act('Disconnect', 'plain', `Disconnect ${c.id}? It may connect again.`, () => call('POST', 'client/disconnect', { query: { id } })),
        act('Delete session', 'plain', `Delete the session of ${c.id}, with its subscriptions and ${count(c.backlog)} waiting messages?`, async () => { await call('DELETE', 'client', { query: { id } }); box.hidden = true }),
        act(n?.traced ? 'Stop trace' : 'Trace 10 min', 'plain', '', async () => { await call('PUT', 'client/trace', { query: { id }, body: { seconds: n?.traced ? 0 : 600 } }); detail(id, tr); return n?.traced ? 'Trace is off.' : 'Its packets go to the log.' }),
        act('Ban 1 hour', 'plain', `Keep ${c.id} out for an hour?`, () => call('PUT', 'bans', { body: { kind: 'client', value: id, seconds: 3600 } }))),
      note,
      element('h2', {}, `Subscriptions (${count(c.subscriptions)})`),
      subscriptions.length ? element('table', {}, element('tbody', {}, ...subscriptions.map((s) => row([s.filter, 'id'], ['QoS ' + s.qos, 'n'])))) : element('p', { className: 'quiet' }, 'None.'))
  } catch (e) {
    note.textContent = e.message
    box.replaceChildren(element('h2', { className: 'id' }, id), note)
  }
  box.hidden = false
  if (innerWidth < 1150) box.scrollIntoView({ block: 'nearest' })
}

views.clients = () => listClients()
views.status = (s) => {
  const select = $('#search select[name=gateway]'), ids = s.gateways.map((g) => g.id)
  if (select.dataset.ids === ids.join('\n')) return
  const chosen = select.value
  select.dataset.ids = ids.join('\n')
  select.replaceChildren(element('option', { value: '' }, 'all'), ...ids.map((id) => element('option', { value: id }, id)))
  select.value = ids.includes(chosen) ? chosen : ''
}
on('search', 'submit', () => listClients())
on('client-more', 'click', () => listClients(true))
let typing = 0
$('#search').addEventListener('input', () => { clearTimeout(typing); typing = setTimeout(listClients, 250) })

// Topics.
views.topics = () => { if (!needsToken($('#who-note')) && $('#retained-list').hidden) listRetained() }

on('who', 'submit', () => tried('who-note', async () => {
  if (needsToken($('#who-note'))) return
  const a = await call('GET', 'subscribers', { query: { topic: values($('#who')).topic, limit: 500 } })
  $('#who-list').hidden = false
  fill($('#who-list'), a.subscribers.map((s) => row([s.client, 'id'], s.connected ? s.gateway : 'away', [s.qos, 'n'], [s.filters.join(', '), 'id'])), 'Nobody.')
  const shared = a.subscribers.some((s) => s.shared) ? ' Of each shared group one member gets it.' : ''
  say('who-note', `${count(a.subscribers.length)}${a.more ? ' and more' : ''} ${a.subscribers.length === 1 ? 'client' : 'clients'}.${shared}${a.missing.length ? ' Did not answer: ' + a.missing.join(', ') + '.' : ''}`)
}))

let retainedCursor = ''
function listRetained(more) {
  return tried('retained-note', async () => {
    if (needsToken($('#retained-note'))) return
    const table = $('#retained-list'), filter = values($('#retained')).filter
    const a = await call('GET', 'retained', { query: { filter, limit: 50, cursor: more ? retainedCursor : '' } })
    table.hidden = false
    const rows = a.messages.map((m) => {
      const payload = m.payload ?? (m.payload_base64 ? 'base64: ' + m.payload_base64 : '')
      const remove = element('button', {
        type: 'button', className: 'plain small', onclick: async () => {
          if (await confirmed(`Remove the retained message of ${m.topic}?`)) await tried('retained-note', async () => { await call('DELETE', 'retained', { query: { topic: m.topic } }); tr.remove() })
        },
      }, 'Remove')
      const tr = row([m.topic, 'id'], [payload.slice(0, 300) + (m.truncated || payload.length > 300 ? ' …' : ''), 'payload'], [count(m.payload_bytes), 'n'], remove)
      return tr
    })
    if (more) table.tBodies[0].append(...rows)
    else fill(table, rows, 'None.')
    retainedCursor = a.next ?? ''
    $('#retained-more').hidden = !a.next
  })
}
on('retained', 'submit', () => listRetained())
on('retained-more', 'click', () => listRetained(true))

// Bans.
const kinds = { client: 'client', user: 'user', address: 'address' }
views.bans = () => tried('ban-note', async () => {
  if (needsToken($('#ban-note'))) return
  const all = []
  let next = ''
  do {
    const a = await call('GET', 'bans', { query: { limit: 500, cursor: next } })
    all.push(...a.bans)
    next = a.next ?? ''
  } while (next && all.length < 2000)
  fill($('#ban-list'), all.map((b) => row(kinds[b.kind], [b.value, 'id'], b.reason ?? '', b.until ? clock(b.until) : 'for ever', element('button', {
    type: 'button', className: 'plain small', onclick: () => tried('ban-note', async () => { await call('DELETE', 'bans', { query: { kind: b.kind, value: b.value } }); views.bans() }),
  }, 'Lift'))), 'Nobody is banned.')
  say('ban-note', next ? 'There are more.' : '')
})
on('ban', 'submit', () => tried('ban-note', async () => {
  const v = values($('#ban'))
  await call('PUT', 'bans', { body: { kind: v.kind, value: v.value, reason: v.reason || undefined, seconds: v.seconds ? Number(v.seconds) : undefined } })
  $('#ban input[name=value]').value = ''
  views.bans()
}))

// The MQTT client.
const messages = 200
const client = new Client({
  up: (p) => { tryState('connected', 'good'); if (p.client) $('#connect input[name=client]').value = p.client },
  message: (m) => logMessage('in', m.topic, m.payload, `QoS ${m.qos}${m.retain ? ', retained' : ''}`),
  closed: (why) => { $('#subscriptions').replaceChildren(); tryState(why, why === 'disconnected' ? '' : 'bad') },
})

function tryState(text, kind) {
  const up = text === 'connected', badge = $('#try-state')
  badge.textContent = text
  badge.className = 'badge ' + kind
  $('#connect button[name=connect]').disabled = up
  $('#try-close').disabled = !up
  $('#subscribe button').disabled = $('#publish button').disabled = !up
}

function logMessage(direction, topic, payload, how) {
  const list = $('#messages')
  list.prepend(element('li', { className: direction }, element('div', { className: 'head' }, element('span', { className: 'topic' }, topic), element('span', {}, how), element('span', {}, bytes(payload.length)), element('time', {}, timeOfDay(Date.now()))), element('pre', {}, readable(payload.subarray(0, 4096)))))
  while (list.children.length > messages) list.lastChild.remove()
}

views.try = () => {
  const url = $('#connect input[name=url]')
  if (url.value) return
  const suggested = state.status?.websocket ?? ''
  url.value = suggested.replace('//:', '//' + location.hostname + ':') || (location.protocol === 'https:' ? 'wss://' : 'ws://') + location.hostname + '/mqtt'
  $('#connect input[name=client]').value = 'status-' + Math.random().toString(36).slice(2, 8)
}

on('connect', 'submit', () => {
  tryState('connecting…', 'warn')
  try { client.connect(values($('#connect'))) } catch (e) { tryState(e.message, 'bad') }
})
on('try-close', 'click', () => client.close())
on('try-clear', 'click', () => $('#messages').replaceChildren())
on('subscribe', 'submit', async () => {
  const { filter, qos } = values($('#subscribe'))
  try {
    const code = await client.subscribe(filter, Number(qos))
    const known = [...$('#subscriptions').children].find((li) => li.dataset.filter === filter)
    known?.remove()
    const li = element('li', {}, element('span', { className: 'id' }, filter), code < 0x80 ? 'QoS ' + code : reasonText(code))
    li.dataset.filter = filter
    if (code < 0x80) li.append(element('button', { type: 'button', 'aria-label': 'Unsubscribe from ' + filter, onclick: async () => { await client.unsubscribe(filter); li.remove() } }, '✕'))
    $('#subscriptions').append(li)
  } catch (e) { tryState(e.message, 'bad') }
})
on('publish', 'submit', async () => {
  const v = values($('#publish')), payload = new TextEncoder().encode(v.payload), began = performance.now()
  try {
    const code = await client.publish(v.topic, payload, Number(v.qos), v.retain === 'on')
    const how = v.qos === '0' ? 'QoS 0' : `QoS ${v.qos}, ${code === 0 ? 'acknowledged' : reasonText(code)} after ${seconds((performance.now() - began) / 1000)}`
    logMessage('out', v.topic, payload, how)
  } catch (e) { tryState(e.message, 'bad') }
})
