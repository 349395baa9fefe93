-- Hands out the clients that are due, each to one caller until its claim ends.
-- KEYS   1 clients by time
-- ARGV   1 how many at most, 2 claim in ms
-- Result {now, time of the next one or 0, time of the claims, clients}.
local list = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
local at = now + tonumber(ARGV[2])
for _, client in ipairs(list) do
  redis.call('ZADD', KEYS[1], at, client)
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {now, tonumber(first[2] or 0), at, list}
