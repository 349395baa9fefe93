-- Notes that a client is a member of a shared group no more. With the last
-- member goes what waits for the group.
-- KEYS   1 members with versions, 2 queue, 3 figures, 4 and 5 identities,
--        6 messages that were handed out, 7 until when, 8 and 9 choices
-- ARGV   1 client, 2 version of the change
-- Result 0
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known and tonumber(known) <= tonumber(ARGV[2]) then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('UNLINK', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9])
end
return 0
