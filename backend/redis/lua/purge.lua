-- Removes retained messages of one bucket that have expired.
-- KEYS   as in lib_retained
-- ARGV   1 how many at most
-- Result {how many were removed, when the next one expires in ms or 0}.
local bytes, n = 0, 0
for _, topic in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local value = redis.call('HGET', KEYS[1], topic)
  if value then
    bytes = bytes + remove(topic, value)
    n = n + 1
  else
    redis.call('ZREM', KEYS[3], topic)
  end
end
if bytes > 0 then
  redis.call('DECRBY', KEYS[4], bytes)
end
local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
return {n, tonumber(first[2] or 0)}
