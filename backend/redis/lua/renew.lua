-- Extends the lease of a gateway, unless it has ended.
-- KEYS   1 gateways by the end of their lease
-- ARGV   1 gateway, 2 lease in ms
-- Result {end of the lease, now} in ms; {0, now} if it had ended.
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not ends or now >= tonumber(ends) then
  return {0, now}
end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
return {now + tonumber(ARGV[2]), now}
