// A small MQTT 5 client over WebSocket, for trying things out: it connects,
// subscribes, publishes with QoS 0 to 2 and takes what comes. One connection,
// no reconnecting, nothing stored.

const text = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true })

const reasons = {
  0x80: 'Unspecified error', 0x81: 'Malformed packet', 0x82: 'Protocol error', 0x84: 'Unsupported protocol version',
  0x85: 'Client identifier not valid', 0x86: 'Bad user name or password', 0x87: 'Not authorized', 0x88: 'Server unavailable',
  0x89: 'Server busy', 0x8a: 'Banned', 0x8b: 'Server shutting down', 0x8d: 'Keep alive timeout', 0x8e: 'Session taken over',
  0x8f: 'Topic filter invalid', 0x90: 'Topic name invalid', 0x91: 'Packet identifier in use', 0x95: 'Packet too large',
  0x96: 'Message rate too high', 0x97: 'Quota exceeded', 0x98: 'Administrative action', 0x9c: 'Use another server',
  0x9f: 'Connection rate exceeded', 0xa0: 'Maximum connect time', 0x10: 'No matching subscribers',
}

export const reasonText = (code) => reasons[code] ?? 'Reason 0x' + code.toString(16).padStart(2, '0')

const number16 = (n) => [n >> 8, n & 255]

function field(value) {
  const b = typeof value === 'string' ? text.encode(value) : value
  if (b.length > 65535) throw new Error('longer than MQTT allows')
  return [...number16(b.length), ...b]
}

function packet(first, ...parts) {
  const length = parts.reduce((n, p) => n + p.length, 0)
  const head = [first]
  let n = length
  do {
    head.push((n & 127) | (n > 127 ? 128 : 0))
    n >>= 7
  } while (n > 0)
  const b = new Uint8Array(head.length + length)
  b.set(head)
  let at = head.length
  for (const p of parts) {
    b.set(p, at)
    at += p.length
  }
  return b
}

// Reader takes fields from a packet's body.
class Reader {
  constructor(b) { this.b = b; this.at = 0 }
  byte() { return this.b[this.at++] }
  u16() { return (this.byte() << 8) | this.byte() }
  u32() { return ((this.u16() << 16) >>> 0) + this.u16() }
  varint() {
    let n = 0, shift = 0, c
    do {
      c = this.byte()
      n |= (c & 127) << shift
      shift += 7
    } while (c & 128 && shift < 28)
    return n
  }
  bytes(n) { return this.b.subarray(this.at, (this.at += n)) }
  string() { return new TextDecoder().decode(this.bytes(this.u16())) }
  get left() { return this.b.length - this.at }
  // properties returns those that are of interest here.
  properties() {
    const end = this.varint() + this.at, found = {}
    while (this.at < end) {
      const id = this.byte()
      if ([0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2a].includes(id)) this.byte()
      else if ([0x13, 0x21, 0x22, 0x23].includes(id)) { const n = this.u16(); if (id === 0x13) found.keepAlive = n }
      else if ([0x02, 0x11, 0x18, 0x27].includes(id)) this.u32()
      else if (id === 0x0b) this.varint()
      else if (id === 0x26) { this.string(); this.string() }
      else if (id === 0x09 || id === 0x16) this.bytes(this.u16())
      else { const s = this.string(); if (id === 0x1f) found.reason = s; if (id === 0x12) found.client = s }
    }
    this.at = end
    return found
  }
}

export class Client {
  // handlers: up(info), message(m), closed(why), granted(filter, code)
  constructor(handlers) { this.on = handlers; this.reset() }

  reset() {
    this.waiting = new Map() // packet identifier to what its answer settles
    this.coming = new Set() // QoS 2 publishes that were received and not released
    this.next = 1
    this.held = new Uint8Array(0)
    this.why = ''
  }

  connect({ url, client, user, password }) {
    this.reset()
    const socket = (this.socket = new WebSocket(url, ['mqtt']))
    socket.binaryType = 'arraybuffer'
    const flags = 2 | (user ? 128 : 0) | (password ? 64 : 0) // a clean start
    socket.onopen = () => this.send(packet(0x10, field('MQTT'), [5, flags, ...number16(60), 0], field(client), user ? field(user) : [], password ? field(password) : []))
    socket.onmessage = (e) => {
      try { this.take(new Uint8Array(e.data)) } catch (err) { this.end(String(err.message)) }
    }
    socket.onclose = () => {
      if (this.socket !== socket) return
      clearInterval(this.timer)
      for (const w of this.waiting.values()) w.reject(new Error('the connection ended'))
      this.socket = null
      this.on.closed(this.why || 'the connection could not be made, or broke')
    }
  }

  send(b) { this.socket?.send(b) }

  end(why) { this.why = why; this.socket?.close() }

  close() {
    this.why = 'disconnected'
    this.send(packet(0xe0))
    this.socket?.close()
  }

  identifier() {
    for (let i = 0; i < 65535; i++) {
      const id = this.next
      this.next = (id % 65535) + 1
      if (!this.waiting.has(id)) return id
    }
    throw new Error('too much is under way')
  }

  // request sends what make returns for a new packet identifier, and waits.
  request(make) {
    return new Promise((resolve, reject) => {
      const id = this.identifier()
      const b = make(id)
      this.waiting.set(id, { resolve, reject })
      this.send(b)
    })
  }

  subscribe(filter, qos) { return this.request((id) => packet(0x82, number16(id), [0], field(filter), [qos])) }
  unsubscribe(filter) { return this.request((id) => packet(0xa2, number16(id), [0], field(filter))) }

  publish(topic, payload, qos, retain) {
    const first = 0x30 | (qos << 1) | (retain ? 1 : 0)
    if (qos === 0) {
      this.send(packet(first, field(topic), [0], payload))
      return Promise.resolve(0)
    }
    return this.request((id) => packet(first, field(topic), number16(id), [0], payload))
  }

  // take handles what came: any number of packets, the last perhaps in part.
  take(b) {
    const all = new Uint8Array(this.held.length + b.length)
    all.set(this.held)
    all.set(b, this.held.length)
    let at = 0
    for (;;) {
      let length = 0, n = 1, c = 128
      while (c & 128 && at + n < all.length && n < 5) {
        c = all[at + n]
        length |= (c & 127) << (7 * (n - 1))
        n++
      }
      if (c & 128 || at + n + length > all.length) break
      this.handle(all[at], new Reader(all.subarray(at + n, at + n + length)))
      at += n + length
    }
    this.held = all.slice(at)
  }

  handle(first, r) {
    const settle = (id, code) => {
      this.waiting.get(id)?.resolve(code)
      this.waiting.delete(id)
    }
    switch (first >> 4) {
      case 2: { // CONNACK
        r.byte()
        const code = r.byte(), p = r.properties()
        if (code >= 0x80) return this.end('refused: ' + (p.reason || reasonText(code)))
        this.timer = setInterval(() => this.send(packet(0xc0)), 1000 * Math.min(p.keepAlive ?? 60, 60) / 2)
        return this.on.up(p)
      }
      case 3: { // PUBLISH
        const qos = (first >> 1) & 3, topic = r.string(), id = qos ? r.u16() : 0
        r.properties()
        const payload = r.bytes(r.left)
        if (qos === 1) this.send(packet(0x40, number16(id)))
        if (qos === 2) {
          this.send(packet(0x50, number16(id)))
          if (this.coming.has(id)) return
          this.coming.add(id)
        }
        return this.on.message({ topic, payload, qos, retain: Boolean(first & 1) })
      }
      case 4: case 7: { // PUBACK, PUBCOMP
        const id = r.u16()
        return settle(id, r.left ? r.byte() : 0)
      }
      case 5: { // PUBREC
        const id = r.u16(), code = r.left ? r.byte() : 0
        if (code >= 0x80) return settle(id, code)
        return this.send(packet(0x62, number16(id)))
      }
      case 6: { // PUBREL
        const id = r.u16()
        this.coming.delete(id)
        return this.send(packet(0x70, number16(id)))
      }
      case 9: case 11: { // SUBACK, UNSUBACK
        const id = r.u16()
        r.properties()
        return settle(id, r.byte())
      }
      case 14: { // DISCONNECT
        const code = r.left ? r.byte() : 0
        const p = r.left ? r.properties() : {}
        return this.end('ended by the gateway: ' + reasonText(code) + (p.reason ? ' (' + p.reason + ')' : ''))
      }
    }
  }
}

// readable returns a payload as text, or in hexadecimal if it is none.
export function readable(payload) {
  try {
    return decoder.decode(payload)
  } catch {
    const hex = [...payload.subarray(0, 256)].map((b) => b.toString(16).padStart(2, '0')).join(' ')
    return payload.length > 256 ? hex + ' …' : hex
  }
}
