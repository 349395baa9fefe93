-- Sets and removes retained messages of one bucket, in order.
-- KEYS   as in lib_retained
-- ARGV   1 how many more messages are allowed, 2 how many more bytes, then for
--        each topic, message ('' removes) and expiry in ms, 0 never
-- Result {how many were refused, messages more than before, bytes more}.
local room, bytesRoom = tonumber(ARGV[1]), tonumber(ARGV[2])
local refused, more, bytes = 0, 0, 0
for i = 3, #ARGV, 3 do
  local topic, value, expiry = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local old = redis.call('HGET', KEYS[1], topic)
  if value == '' then
    if old then
      bytes = bytes - remove(topic, old)
      more = more - 1
    end
  else
    local grows = sizeOf(value) - (old and sizeOf(old) or 0)
    -- What makes it smaller is allowed even above the limit.
    if (not old and more >= room) or (grows > 0 and bytes + grows > bytesRoom) then
      refused = refused + 1
    else
      redis.call('HSET', KEYS[1], topic, value)
      if not old then
        redis.call('ZADD', KEYS[2], 0, ordered(topic))
        more = more + 1
      end
      bytes = bytes + grows
      if expiry > 0 then
        redis.call('ZADD', KEYS[3], expiry, topic)
      elseif old then
        redis.call('ZREM', KEYS[3], topic)
      end
    end
  end
end
if bytes ~= 0 then
  redis.call('INCRBY', KEYS[4], bytes)
end
return {refused, more, bytes}
