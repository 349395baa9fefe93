-- Notes a client as a member of a shared group: messages may wait for it.
-- KEYS   1 members with versions
-- ARGV   1 client, 2 version of the change that made it one
-- Result 0
local known = redis.call('HGET', KEYS[1], ARGV[1])
if not known or tonumber(known) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return 0
