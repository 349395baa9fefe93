-- Records a change for the index of every gateway: in the list of clients, and
-- in the log that gateways follow, together. Nothing is done for a version
-- that is recorded already, or for the end of what is not there.
-- KEYS   1 clients, 2 log, 3 number of the last change
-- ARGV   1 client, 2 version, 3 change, 4 what the list has for the client:
--        '' ends it, 5 length of the log
-- Result 1 if it was recorded.
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known and tonumber(string.match(known, '^%d+')) >= tonumber(ARGV[2]) then
  return 0
end
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
elseif known then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  return 0
end
local n = redis.call('INCR', KEYS[3])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], string.format('%.0f-0', n), 'c', ARGV[3])
return 1
