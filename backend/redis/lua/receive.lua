-- Remembers QoS 2 publishes as appended in full. A packet identifier has 'h'
-- and its generation while it is held, 'f' and the next one when it was
-- forgotten. What is remembered of a session that is not there ends soon.
-- KEYS   1 meta of the publisher, 2 receipts
-- ARGV   1 incarnation, 2 for how long in ms if that is gone, then packet
--        identifiers and generations in turn
-- Result 0
for i = 3, #ARGV, 2 do
  local known, generation = redis.call('HGET', KEYS[2], ARGV[i]), tonumber(ARGV[i + 1])
  if not known or tonumber(string.sub(known, 2)) <= generation then
    redis.call('HSET', KEYS[2], ARGV[i], 'h' .. int(generation))
  end
end
if redis.call('HGET', KEYS[1], 'inc') ~= ARGV[1] then
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
return 0
