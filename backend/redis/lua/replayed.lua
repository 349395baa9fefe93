-- Moves the mark of a replay, or ends it. One that is not known has ended.
-- KEYS   1 meta, 2 replays
-- ARGV   1 to 5 as in lib_lease, 6 filter, 7 mark, 8 whether it is done
-- Result {0}, or {-1} or {-2, ...} see lib_lease.
local no = refused()
if no then
  return no
end
if ARGV[8] == '1' then
  redis.call('HDEL', KEYS[2], ARGV[6])
  return {0}
end
local r = redis.call('HGET', KEYS[2], ARGV[6])
if r then
  -- The first byte is the length of the subscription in front of the mark.
  redis.call('HSET', KEYS[2], ARGV[6], string.sub(r, 1, 1 + string.byte(r, 1)) .. ARGV[7])
end
return {0}
