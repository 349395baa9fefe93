-- Makes clients come up, each at a time at the latest. What is there is moved by
-- at least a millisecond, so that whoever is looking after the client just now
-- does not take the new time for the one that is done.
-- KEYS   1 clients by time
-- ARGV   clients and times in ms in turn
-- Result 0
for i = 1, #ARGV, 2 do
  local t, known = tonumber(ARGV[i + 1]), redis.call('ZSCORE', KEYS[1], ARGV[i])
  if known then
    t = math.min(t, tonumber(known) - 1)
  end
  redis.call('ZADD', KEYS[1], t, ARGV[i])
end
return 0
