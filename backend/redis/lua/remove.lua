-- Forgets a gateway whose clients have all been taken from it, unless it has
-- come to life again under its name.
-- KEYS   1 gateways by the end of their lease
-- ARGV   1 gateway
-- Result 0
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ends and tonumber(ends) <= now then
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return 0
