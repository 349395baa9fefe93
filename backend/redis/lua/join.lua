-- Begins the lease of a gateway.
-- KEYS   1 gateways by the end of their lease
-- ARGV   1 gateway, 2 lease in ms
-- Result {end of the lease, now}, both in ms.
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
return {now + tonumber(ARGV[2]), now}
