// An aedes broker on Redis, as its documentation sets one up: PORT and REDIS
// (host:port) come from the environment.
import { createServer } from 'node:net'
import { Aedes } from 'aedes'
import emitter from 'mqemitter-redis'
import persistence from 'aedes-persistence-redis'

const [host, port] = process.env.REDIS.split(':')
const connection = { host, port: Number(port) }
const aedes = await Aedes.createBroker({
  mq: emitter(connection),
  persistence: persistence(connection),
  maxClientsIdLength: 256,
  queueLimit: 1000,
})
createServer({ noDelay: true }, aedes.handle).listen(Number(process.env.PORT), '127.0.0.1')
