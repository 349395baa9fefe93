-- Reads all that the index has to know of a session, of one moment.
-- KEYS   1 meta, 2 subscriptions
-- Result {version, inbox, durable, gateway, epoch, filters and subscriptions
--        in turn}; {-version} if it is not for the index, with the store's
--        clock in microseconds for one that is not there.
local s = redis.call('HMGET', KEYS[1], 'ver', 'box', 'durable', 'node', 'epoch')
if not s[1] then
  return {-us}
end
if s[1] == '0' then
  return {-1}
end
return {tonumber(s[1]), s[2] or '', tonumber(s[3]), s[4] or '', tonumber(s[5]), redis.call('HGETALL', KEYS[2])}
