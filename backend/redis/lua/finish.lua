-- Ends chores of a client; those that are not known are none.
-- KEYS   1 chores, 2 their times
-- ARGV   identifiers
-- Result how many are left.
redis.call('HDEL', KEYS[1], unpack(ARGV))
redis.call('ZREM', KEYS[2], unpack(ARGV))
return redis.call('ZCARD', KEYS[2])
