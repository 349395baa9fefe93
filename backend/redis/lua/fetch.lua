-- Reads entries of an inbox. What has expired is done [MQTT-3.3.2-5], unless it
-- may have been sent [MQTT-4.3.3-7].
-- KEYS   1 meta, 2 inbox
-- ARGV   1 to 5 as in lib_lease, 6 sequence after which, 7 most entries,
--        8 most bytes
-- Result {-1} or {-2, ...} see lib_lease; else {0, whether there are more,
--        then sequence and entry in turn}.
local no = refused()
if no then
  return no
end
local h = header(KEYS[2])
if not h then
  return {0, 0}
end
local result, n, bytes, more, expired = {0, 0}, 0, 0, 0, false
local atMost, room = tonumber(ARGV[7]), tonumber(ARGV[8])
local from = math.max(tonumber(ARGV[6]) - h.base, 0) + 1
while more == 0 and from <= h.n do
  local list = redis.call('LRANGE', KEYS[2], from, from + 31)
  for j = 1, #list do
    local e = list[j]
    if e ~= '' then
      local x = expires(e)
      if x ~= 0 and x <= now and string.byte(e, 1) == 112 and h.base + from + j - 1 > h.sent then
        finish(KEYS[2], h, from + j - 1, e)
        expired = true
      else
        bytes = bytes + #e
        if n >= atMost or (n > 0 and bytes > room) then
          more = 1
          break
        end
        n = n + 1
        result[#result + 1] = h.base + from + j - 1
        result[#result + 1] = e
      end
    end
  end
  from = from + #list
end
if expired then
  settleHead(KEYS[2], h)
end
result[2] = more
return result
