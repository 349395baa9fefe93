// MQTT.js as a client of the tests, in Node: speaks the line protocol that
// ../line/line.go defines.

import readline from 'node:readline'
import mqtt from 'mqtt'

const clients = new Map()

function report(r) {
	process.stdout.write(JSON.stringify(r) + '\n')
}

// without returns o less the fields that are undefined, which MQTT.js would take
// for values.
function without(o) {
	return Object.fromEntries(Object.entries(o).filter(([, v]) => v !== undefined))
}

function propertiesOut(p) {
	if (!p) return undefined
	const user = {}
	for (const [k, v] of p.user ?? []) user[k] = k in user ? [].concat(user[k], v) : v
	return without({
		payloadFormatIndicator: p.payload_format === undefined ? undefined : p.payload_format === 1,
		messageExpiryInterval: p.expiry,
		contentType: p.content_type,
		responseTopic: p.response_topic,
		correlationData: p.correlation && Buffer.from(p.correlation, 'base64'),
		userProperties: p.user ? user : undefined,
	})
}

function propertiesIn(p) {
	if (!p) return undefined
	const ids = p.subscriptionIdentifier
	return without({
		payload_format: p.payloadFormatIndicator === undefined ? undefined : Number(p.payloadFormatIndicator),
		expiry: p.messageExpiryInterval,
		content_type: p.contentType,
		response_topic: p.responseTopic,
		correlation: p.correlationData?.toString('base64'),
		user: p.userProperties &&
			Object.entries(p.userProperties).flatMap(([k, v]) => [].concat(v).map((one) => [k, one])),
		subscription_ids: ids === undefined ? undefined : [].concat(ids).sort((a, b) => a - b),
	})
}

function will(c) {
	if (!c.will) return undefined
	return {
		topic: c.will.topic,
		payload: Buffer.from(c.will.payload ?? '', 'base64'),
		qos: c.will.qos,
		retain: c.will.retain ?? false,
		...(c.version === 5 && {
			properties: { ...propertiesOut(c.will.properties), ...(c.will_delay && { willDelayInterval: c.will_delay }) },
		}),
	}
}

function connect({ n, conn, connect: c }) {
	const client = mqtt.connect(c.url, {
		protocolVersion: c.version,
		protocolId: c.version === 3 ? 'MQIsdp' : 'MQTT',
		clientId: c.client_id,
		clean: c.clean,
		keepalive: c.keep_alive,
		reconnectPeriod: c.reconnect ? 20 : 0,
		connectTimeout: 10_000,
		...(c.version === 5 && c.expiry && { properties: { sessionExpiryInterval: c.expiry } }),
		...(c.will && { will: will(c) }),
	})
	const connection = { client, version: c.version, window: 65535 }
	clients.set(conn, connection)
	let answered = false
	let up = false
	let reason = 0
	client.on('connect', (ack) => {
		up = true
		connection.window = ack.properties?.receiveMaximum ?? 65535
		const facts = { session_present: ack.sessionPresent, client_id: ack.properties?.assignedClientIdentifier }
		report(answered ? { n: 0, conn, up: true, ...facts } : { n, ...facts })
		answered = true
	})
	client.on('error', (err) => {
		if (!answered) report({ n, error: String(err) })
		answered = true
	})
	client.on('disconnect', (packet) => { reason = packet.reasonCode ?? 0 })
	client.on('close', () => {
		if (!answered && !c.reconnect) report({ n, error: 'closed before CONNACK' })
		if (up) report({ n: 0, conn, down: true, reason })
		answered = true
		up = false
	})
	client.on('message', (topic, payload, p) => {
		const message = {
			topic, payload: payload.toString('base64'), qos: p.qos, retain: p.retain, dup: p.dup,
			properties: propertiesIn(p.properties),
		}
		report({ n: 0, conn, message })
	})
}

// Each returns what belongs in the answer, or throws.
const requests = {
	subscribe({ client, version }, q) {
		const filters = Object.fromEntries((q.filters).map((f) => [f.filter, {
			qos: f.qos,
			...(version === 5 && { nl: f.no_local ?? false, rap: f.retain_as_published ?? false, rh: f.retain_handling ?? 0 }),
		}]))
		const options = version === 5 && q.subscription_id ? { properties: { subscriptionIdentifier: q.subscription_id } } : {}
		return new Promise((resolve, reject) => {
			client.subscribe(filters, options, (err, _, packet) => {
				if (packet?.granted) resolve({ codes: packet.granted })
				else reject(err)
			})
		})
	},
	async unsubscribe({ client }, q) {
		await client.unsubscribeAsync(q.filters.map((f) => f.filter))
	},
	// publish keeps to the server's receive maximum, which MQTT.js leaves to its
	// user: a message too many is an error there, not a wait.
	async publish({ client, version, window }, q) {
		const underWay = new Set()
		for (const m of q.messages) {
			while (underWay.size >= window) await Promise.race(underWay)
			const acked = client.publishAsync(m.topic, Buffer.from(m.payload ?? '', 'base64'), {
				qos: m.qos,
				retain: m.retain ?? false,
				...(version === 5 && m.properties && { properties: propertiesOut(m.properties) }),
			}).then(() => underWay.delete(acked))
			underWay.add(acked)
		}
		await Promise.all(underWay)
	},
	async disconnect({ client }, q) {
		clients.delete(q.conn)
		await client.endAsync(false, q.reason ? { reasonCode: q.reason } : {})
	},
}

for await (const text of readline.createInterface({ input: process.stdin })) {
	const q = JSON.parse(text)
	if (q.do === 'connect') {
		connect(q)
		continue
	}
	// Not awaited: requests of one connection may run side by side.
	Promise.resolve()
		.then(() => requests[q.do](clients.get(q.conn), q))
		.then((answer) => report({ n: q.n, ...answer }), (err) => report({ n: q.n, error: String(err) }))
}
process.exit(0)
