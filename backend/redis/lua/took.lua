-- Ends the claims on messages of a shared group: they are stored elsewhere.
-- KEYS   1 messages that were handed out, 2 until when
-- ARGV   numbers
-- Result 0
redis.call('HDEL', KEYS[1], unpack(ARGV))
redis.call('ZREM', KEYS[2], unpack(ARGV))
return 0
