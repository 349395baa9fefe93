-- Takes a message out of the queue of a shared group again, as if it had not
-- been put there.
-- KEYS   1 queue, 2 figures, 3 and 4 identities
-- ARGV   1 number, 2 entry, 3 field of its identity or ''
-- Result 1, or 0 if somebody has taken it.
local element = ARGV[1] .. ' ' .. ARGV[2]
if redis.call('LREM', KEYS[1], -1, element) == 0 then
  return 0
end
redis.call('HINCRBY', KEYS[2], 'bytes', -#element)
if ARGV[3] ~= '' then
  redis.call('HDEL', KEYS[3], ARGV[3])
  redis.call('HDEL', KEYS[4], ARGV[3])
end
return 1
