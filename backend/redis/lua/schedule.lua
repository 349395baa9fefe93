-- Makes a client come up at a time at the latest. What is there is moved by at
-- least a millisecond, so that whoever is looking after the client just now
-- does not take the new time for the one that is done.
-- KEYS   1 clients by time
-- ARGV   1 client, 2 time in ms
-- Result 0
local t, known = tonumber(ARGV[2]), redis.call('ZSCORE', KEYS[1], ARGV[1])
if known then
  t = math.min(t, tonumber(known) - 1)
end
redis.call('ZADD', KEYS[1], t, ARGV[1])
return 0
