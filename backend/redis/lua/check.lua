-- Tells whether a lease holds.
-- KEYS   1 meta
-- ARGV   1 to 5 as in lib_lease
-- Result {0, durable}, or {-1} or {-2, ...} see lib_lease.
local no = refused()
if no then
  return no
end
return {0, tonumber(redis.call('HGET', KEYS[1], 'durable'))}
