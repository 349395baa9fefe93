-- Ends QoS 2 publishes of a client: their packet identifiers are free.
-- KEYS   1 meta, 2 receipts
-- ARGV   1 to 5 as in lib_lease, then packet identifiers
-- Result {0}, or {-1} or {-2, ...} see lib_lease.
local no = refused()
if no then
  return no
end
local durable = redis.call('HGET', KEYS[1], 'durable') == '1'
for i = 6, #ARGV do
  local known = redis.call('HGET', KEYS[2], ARGV[i])
  if known and string.sub(known, 1, 1) == 'h' then
    if durable then
      redis.call('HSET', KEYS[2], ARGV[i], 'f' .. int(tonumber(string.sub(known, 2)) + 1))
    else
      redis.call('HDEL', KEYS[2], ARGV[i]) -- nobody will ask for its generation
    end
  end
end
return {0}
