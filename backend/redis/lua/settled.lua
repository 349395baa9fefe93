-- Puts away clients that were handed out by due, each unless it was scheduled
-- anew meanwhile.
-- KEYS   1 clients by time
-- ARGV   for each client: it, time of the claim, when it is due again in ms, 0
--        never
-- Result 0
for i = 1, #ARGV, 3 do
  local known = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or 0)
  local again = tonumber(ARGV[i + 2])
  if known == tonumber(ARGV[i + 1]) and again == 0 then
    redis.call('ZREM', KEYS[1], ARGV[i])
  elseif known == tonumber(ARGV[i + 1]) or (again > 0 and again < known) then
    redis.call('ZADD', KEYS[1], again, ARGV[i])
  end
end
return 0
