-- Adds subscriptions to a session, all or none, and moves its inbox to a new
-- name, so that an append which does not know them yet looks again.
-- KEYS   1 meta, 2 subscriptions, 3 replays, 4 inbox, 5 inbox under its next
--        name
-- ARGV   1 to 5 as in lib_lease, 6 next name of the inbox, 7 most
--        subscriptions, 8 how many follow, then filters with subscriptions,
--        then filters with replays
-- Result {-1} or {-2, ...} see lib_lease, {-3} too many; else {0, which
--        existed, versions of the index before and after, durable}; both
--        versions are the same where the index is not concerned.
local no = refused()
if no then
  return no
end
local n, existed, fresh, shares = tonumber(ARGV[8]), {}, 0, 0
local again, touchesGroup = {}, false
for i = 1, n do
  local filter = ARGV[7 + 2 * i]
  local isShared = string.sub(filter, 1, 7) == '$share/'
  touchesGroup = touchesGroup or isShared
  if again[filter] or redis.call('HEXISTS', KEYS[2], filter) == 1 then
    existed[i] = 1
  else
    existed[i] = 0
    fresh = fresh + 1
    if isShared then
      shares = shares + 1
    end
  end
  again[filter] = true
end
if redis.call('HLEN', KEYS[2]) + fresh > tonumber(ARGV[7]) then
  return {-3}
end
for i = 1, n do
  redis.call('HSET', KEYS[2], ARGV[7 + 2 * i], ARGV[8 + 2 * i])
end
local s = redis.call('HMGET', KEYS[1], 'durable', 'ver')
if s[1] == '1' then
  for i = 9 + 2 * n, #ARGV, 2 do
    redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
  end
end
if touchesGroup then
  redis.call('HINCRBY', KEYS[1], 'members', shares)
  redis.call('HSET', KEYS[1], 'shared', '1')
end
local before = tonumber(s[2])
local after = before
if n > 0 and (s[1] == '1' or touchesGroup) then
  after = math.max(before + 1, us)
  redis.call('HSET', KEYS[1], 'ver', int(after))
  if s[1] == '1' then
    redis.call('RENAME', KEYS[4], KEYS[5])
    redis.call('HSET', KEYS[1], 'box', ARGV[6])
  end
end
return {0, existed, before, after, tonumber(s[1])}
