-- Reads fields of a session's meta, as a script, so that it shares a pipeline
-- with scripts.
-- KEYS   1 meta
-- ARGV   fields
-- Result their values, false for what is not there
return redis.call('HMGET', KEYS[1], unpack(ARGV))
