-- Ends the run of a gateway, unless a newer one has begun.
-- KEYS   1 run
-- ARGV   1 name
-- Result 0
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 0
