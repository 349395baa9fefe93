-- Notes at a gateway that it is about to deal with clients, so that who reaps
-- it looks after them. Refused when its lease has ended: then nobody
-- would look any more.
-- KEYS   1 run of the gateway, 2 its clients with tickets
-- ARGV   1 run, 2 end of its lease in ms, 3 ... clients and tickets in
--        turn
-- Result 1, or 0 if it was refused.
if redis.call('GET', KEYS[1]) ~= ARGV[1] or now >= tonumber(ARGV[2]) then
  return 0
end
redis.call('HSET', KEYS[2], unpack(ARGV, 3))
return 1
