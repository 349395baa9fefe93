-- Makes sessions that end with their connections, for clients that have none:
-- what most of those are that come by the thousand, and nothing that is there
-- has to be looked after.
-- KEYS   meta of each client
-- ARGV   1 least epoch, 2 end of the gateway's lease in ms, 3 gateway, 4 how
--        many follow for each client: its ticket in the gateway's list of
--        clients, principal, and how many entries may be under way at once, 0
--        if that is not known; with a will its message, delay, message expiry
--        or '', and whose it is
-- Result for each client its epoch, or 0 if it has a session, which is left as
--        it is; all -1 if the gateway's lease has ended.
local epoch, each, result = math.max(us, tonumber(ARGV[1])), tonumber(ARGV[4]), {}
local fenced, text = now >= tonumber(ARGV[2]), int(epoch)
for i, meta in ipairs(KEYS) do
  if fenced then
    result[i] = -1
  elseif redis.call('EXISTS', meta) == 1 then
    result[i] = 0
  else
    local a = 5 + (i - 1) * each
    redis.call('HSET', meta, 'inc', text, 'principal', ARGV[a + 1], 'durable', '0', 'sent', '0', 'ver', '0', 'members', '0',
      'epoch', text, 'node', ARGV[3], 'ticket', ARGV[a], 'expiry', '0', 'window', ARGV[a + 2])
    if each > 3 then
      redis.call('HSET', meta, 'will', ARGV[a + 3], 'wdelay', ARGV[a + 4], 'wexpiry', ARGV[a + 5])
      if ARGV[a + 6] ~= '' then
        redis.call('HSET', meta, 'wowner', ARGV[a + 6])
      end
    end
    result[i] = epoch
  end
end
return result
