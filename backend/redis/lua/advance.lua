-- Records what a client has answered, and removes what is done at the front.
-- KEYS   1 meta, 2 inbox
-- ARGV   1 to 5 as in lib_lease, 6 base, 7 how many released follow, then
--        released, then done
-- Result {0}, or {-1} or {-2, ...} see lib_lease; {-1} also for a base above
--        the newest entry: that is of an inbox which a server has lost.
local no = refused()
if no then
  return no
end
local h = header(KEYS[2])
if not h then
  return {0}
end
if tonumber(ARGV[6]) > h.base + h.n then
  return {-1}
end
local releases = tonumber(ARGV[7])
for k = 8, #ARGV do
  local i = tonumber(ARGV[k]) - h.base
  local e = i >= 1 and i <= h.n and redis.call('LINDEX', KEYS[2], i) or ''
  if e ~= '' then
    if k >= 8 + releases then
      finish(KEYS[2], h, i, e)
    elseif string.byte(e, 1) == 112 then
      redis.call('LSET', KEYS[2], i, 'r' .. string.sub(e, 2))
    end
  end
end
drop(KEYS[2], h, tonumber(ARGV[6]) - h.base)
settleHead(KEYS[2], h)
return {0}
