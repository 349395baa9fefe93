-- Removes subscriptions and their replays from a session, and moves its inbox
-- to a new name, so that an append which still knows them looks again.
-- KEYS   as in subscribe
-- ARGV   1 to 5 as in lib_lease, 6 next name of the inbox, then filters
-- Result {-1} or {-2, ...} see lib_lease; else as subscribe.
local no = refused()
if no then
  return no
end
local existed, any, shares = {}, false, 0
local s = redis.call('HMGET', KEYS[1], 'durable', 'ver')
for i = 7, #ARGV do
  local filter = ARGV[i]
  existed[i - 6] = redis.call('HDEL', KEYS[2], filter)
  redis.call('HDEL', KEYS[3], filter)
  if existed[i - 6] == 1 then
    local isShared = string.sub(filter, 1, 7) == '$share/'
    any = any or isShared or s[1] == '1'
    if isShared then
      shares = shares + 1
    end
  end
end
if shares > 0 then
  redis.call('HINCRBY', KEYS[1], 'members', -shares)
end
local before = tonumber(s[2])
local after = before
if any then
  after = math.max(before + 1, us)
  redis.call('HSET', KEYS[1], 'ver', int(after))
  if s[1] == '1' then
    redis.call('RENAME', KEYS[4], KEYS[5])
    redis.call('HSET', KEYS[1], 'box', ARGV[6])
  end
end
return {0, existed, before, after, tonumber(s[1])}
