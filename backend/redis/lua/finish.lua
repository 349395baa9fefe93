-- Ends chores of a client; those that are not known are none.
-- KEYS   1 chores, 2 their times, 3 meta of the session
-- ARGV   identifiers
-- Result until when one of them was claimed, in ms, if the client has neither
--        chores nor a session now: nothing that could come due; else 0.
local at = redis.call('ZSCORE', KEYS[2], ARGV[#ARGV])
redis.call('HDEL', KEYS[1], unpack(ARGV))
redis.call('ZREM', KEYS[2], unpack(ARGV))
if at and redis.call('EXISTS', KEYS[2], KEYS[3]) == 0 then
  return tonumber(at)
end
return 0
