-- Ends the lease of a gateway now, if it has not ended before.
-- KEYS   1 gateways by the end of their lease
-- ARGV   1 gateway
-- Result when it ended, in ms; -1 if there is no such gateway.
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not ends then
  return -1
end
if tonumber(ends) <= now then
  return tonumber(ends)
end
redis.call('ZADD', KEYS[1], now, ARGV[1])
return now
