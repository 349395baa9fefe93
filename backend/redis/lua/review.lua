-- Tells whether a lease holds and which is the newest entry of the inbox.
-- KEYS   1 meta, 2 inbox
-- ARGV   1 to 5 as in lib_lease
-- Result {0, sequence}, or {-1} or {-2, ...} see lib_lease.
local no = refused()
if no then
  return no
end
local h = header(KEYS[2])
return {0, h and h.base + h.n or 0}
