-- Puts away a client that was handed out by due, unless it was scheduled anew
-- meanwhile.
-- KEYS   1 clients by time
-- ARGV   1 client, 2 time of the claim, 3 when it is due again in ms, 0 never
-- Result 0
local known = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)
local again = tonumber(ARGV[3])
if known == tonumber(ARGV[2]) and again == 0 then
  redis.call('ZREM', KEYS[1], ARGV[1])
elseif known == tonumber(ARGV[2]) or (again > 0 and again < known) then
  redis.call('ZADD', KEYS[1], again, ARGV[1])
end
return 0
