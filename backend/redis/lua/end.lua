-- Ends sessions with their connections, where that is all there is to do: they
-- have no inbox, are in no shared group, and no will of theirs is to fire.
-- KEYS   for each client meta, subscriptions, receipts, chores, times of the
--        chores
-- ARGV   1 gateway, 2 end of its lease in ms, 3 keep the wills, then the epoch of
--        each
-- Result for each {ticket, chore that tells of the end, until when it is claimed
--        in ms}; -1 fenced; 0 there is more to do, nothing is done.
local CLAIM_MS, RECEIPTS_MS = 5000, 60000
local fenced, result = now >= tonumber(ARGV[2]), {}
for i = 1, #KEYS / 5 do
  local k = 5 * i - 4
  local meta, when = KEYS[k], KEYS[k + 4]
  local s = redis.call('HMGET', meta, 'epoch', 'node', 'inc', 'durable', 'ver', 'will', 'ticket')
  if fenced or s[1] ~= ARGV[3 + i] or s[2] ~= ARGV[1] then
    result[i] = -1
  elseif s[4] ~= '0' or s[5] ~= '0' or s[6] and ARGV[3] == '1' or string.sub(KEYS[k + 2], -#s[3]) ~= s[3] then
    result[i] = 0
  else
    local id = string.format('%014x0001', us) .. string.sub(redis.sha1hex(meta), 1, 10)
    redis.call('UNLINK', meta, KEYS[k + 1])
    redis.call('PEXPIRE', KEYS[k + 2], RECEIPTS_MS)
    redis.call('HSET', KEYS[k + 3], id, 'e')
    redis.call('ZADD', when, now + CLAIM_MS, id)
    result[i] = {s[7], id, now + CLAIM_MS}
  end
end
return result
