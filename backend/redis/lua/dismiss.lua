-- Takes clients from the list of a gateway, each unless it has come back under
-- a newer ticket.
-- KEYS   1 clients with tickets
-- ARGV   clients and tickets in turn
-- Result 0
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return 0
