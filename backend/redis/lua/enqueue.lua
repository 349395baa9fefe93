-- Puts entries into the inbox of a session past its limits, those with an
-- identity once.
-- KEYS   1 meta, 2 inbox, 3 and 4 identities that it has seen
-- ARGV   1 to 5 as in lib_lease, then as in append
-- Result {-1} or {-2, ...} see lib_lease, {-5} without inbox; else {0,
--        sequence of the first}.
local no = refused()
if no then
  return no
end
local h = header(KEYS[2])
if not h then
  return {-5}
end
local first = h.base + h.n + 1
for i = 6, #ARGV, 3 do
  local field, value = ARGV[i + 1], ARGV[i + 2]
  if field == '' or not seen(KEYS[3], KEYS[4], field, value) then
    local n = redis.call('RPUSH', KEYS[2], ARGV[i]) - 1
    if field ~= '' then
      see(KEYS[3], KEYS[4], field, value, h.base + n)
    end
  end
end
return {0, first}
