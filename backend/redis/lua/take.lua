-- Hands out messages that wait for a shared group, in order, until a claim
-- ends: whoever does not say by then that it has stored them loses them to the
-- queue again. Expired ones are dropped.
-- KEYS   1 queue, 2 figures, 3 messages that were handed out, 4 until when
-- ARGV   1 how many at most, 2 claim in ms
-- Result {how many are left, then number and entry in turn}.
local result, bytes = {0}, 0
while #result <= 2 * tonumber(ARGV[1]) do
  local element = redis.call('LPOP', KEYS[1])
  if not element then
    break
  end
  bytes = bytes + #element
  local space = string.find(element, ' ', 1, true)
  local number, e = string.sub(element, 1, space - 1), string.sub(element, space + 1)
  local x = expires(e)
  if x == 0 or x > now then
    redis.call('HSET', KEYS[3], number, e)
    redis.call('ZADD', KEYS[4], now + tonumber(ARGV[2]), number)
    result[#result + 1] = number
    result[#result + 1] = e
  end
end
if bytes > 0 then
  redis.call('HINCRBY', KEYS[2], 'bytes', -bytes)
end
result[1] = redis.call('LLEN', KEYS[1])
return result
