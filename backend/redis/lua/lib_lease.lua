-- For scripts that act under a lease.
-- KEYS[1]     meta of the session
-- ARGV[1..2]  epoch and gateway of the lease
-- ARGV[3]     end of the gateway's own lease, in ms: a gateway that was paused
--             is fenced by time, before anybody has noticed
-- ARGV[4..5]  name of the inbox and incarnation that the caller took the keys
--             for
-- refused returns nil, {-1} for a lease that does not hold, or {-2, inbox,
-- incarnation} for keys that are not the session's any more.
local function refused()
  local s = redis.call('HMGET', KEYS[1], 'epoch', 'node', 'box', 'inc')
  if s[1] ~= ARGV[1] or s[2] ~= ARGV[2] or now >= tonumber(ARGV[3]) then
    return {-1}
  end
  if (s[3] or '') ~= ARGV[4] or s[4] ~= ARGV[5] then
    return {-2, s[3] or '', s[4]}
  end
end
