-- Does what is overdue for a client, and hands out its chores that are ready.
-- KEYS   as in lib_session
-- ARGV   4 gateway whose lease has ended or '', 5 when it ended in ms,
--        6 how many chores at most, 7 the first ticket that is newer than that
-- Result {-2, ...} see moved; else as answer, with the version of the session, 0
--        if it is not for the index.
local elsewhere = moved()
if elsewhere then
  return elsewhere
end
settle(ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[7]))
-- What was made just now is ready like all that nobody holds.
for i = 1, #claimed, 2 do
  redis.call('ZADD', KEYS[10], now, claimed[i])
end
claimed = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[10], '-inf', now, 'LIMIT', 0, ARGV[6])) do
  local payload = redis.call('HGET', KEYS[9], id)
  if payload then
    redis.call('ZADD', KEYS[10], now + CLAIM_MS, id)
    claimed[#claimed + 1] = id
    claimed[#claimed + 1] = payload
  else
    redis.call('ZREM', KEYS[10], id) -- it was finished
  end
end
return answer(tonumber(s.ver or 0))
