-- Puts messages that were handed out back to the front of the queue of their
-- shared group, in order: the given ones and those whose claim has ended.
-- KEYS   1 members with versions, 2 queue, 3 figures, 4 messages that were
--        handed out, 5 until when
-- ARGV   numbers
-- Result {how many are in the queue, when the next claim ends in ms or 0}.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4], KEYS[5])
  return {0, 0}
end
local list = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now)
for i = 1, #ARGV do
  list[#list + 1] = ARGV[i]
end
table.sort(list, function(a, b) return tonumber(a) > tonumber(b) end)
local bytes = 0
for _, number in ipairs(list) do
  local e = redis.call('HGET', KEYS[4], number)
  if e then
    local element = number .. ' ' .. e
    redis.call('LPUSH', KEYS[2], element)
    bytes = bytes + #element
    redis.call('HDEL', KEYS[4], number)
  end
  redis.call('ZREM', KEYS[5], number)
end
if bytes > 0 then
  redis.call('HINCRBY', KEYS[3], 'bytes', bytes)
end
local first = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')
return {redis.call('LLEN', KEYS[2]), tonumber(first[2] or 0)}
