-- A bucket of retained messages: by topic, each as its expiry in ms (0 never),
-- a space, its size, a space, and the message; their topics in order, with NUL
-- for '/', so that the topics below a level stand together right behind it;
-- those that expire by time; and the bytes of all.
-- KEYS   1 messages, 2 topics in order, 3 topics by expiry, 4 bytes
local function ordered(topic)
  return (string.gsub(topic, '/', '\0'))
end

local function sizeOf(value)
  return tonumber(string.match(value, '^%d+ (%d+) '))
end

-- remove takes a topic out and returns the bytes that are gone.
local function remove(topic, value)
  redis.call('HDEL', KEYS[1], topic)
  redis.call('ZREM', KEYS[2], ordered(topic))
  redis.call('ZREM', KEYS[3], topic)
  return sizeOf(value)
end
