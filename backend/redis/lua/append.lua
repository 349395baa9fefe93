-- Puts entries into an inbox with care: within its limits, and those with an
-- identity once. Atomic, so that limits hold and an identity that is
-- remembered was stored.
-- KEYS   1 inbox, 2 and 3 identities that it has seen
-- ARGV   1 most messages, 2 most bytes, 3 whether the oldest go, then for each
--        entry the entry, its identity's field, or '', and value
-- Result {} without inbox; else {header, entries above base, how many older
--        ones went, then for each entry its sequence, 0 if it was refused}.
local h = header(KEYS[1])
if not h then
  return {}
end
local most, room, oldest = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'

-- count learns the bytes of what was added since it was last called.
local function count()
  local from = math.max(h.upto, h.base) - h.base + 1
  for i = from, h.n, CHUNK do
    for _, e in ipairs(redis.call('LRANGE', KEYS[1], i, i + CHUNK - 1)) do
      if e ~= '' then
        h.bytes = h.bytes + #e
        local x = expires(e)
        if x ~= 0 and (h.earliest == 0 or x < h.earliest) then
          h.earliest = x
        end
      end
    end
  end
  h.upto = h.base + h.n
end

-- expire marks the pending entries as done whose messages have expired; not
-- those that may have been sent [MQTT-4.3.3-7].
local function expire()
  if h.earliest == 0 or now < h.earliest then
    return
  end
  h.earliest = 0
  for from = math.max(h.sent - h.base, 0) + 1, h.n, CHUNK do
    local list = redis.call('LRANGE', KEYS[1], from, from + CHUNK - 1)
    for j = 1, #list do
      local e = list[j]
      local x = e ~= '' and string.byte(e, 1) == 112 and expires(e) or 0
      if x ~= 0 and x <= now then
        finish(KEYS[1], h, from + j - 1, e)
      elseif x ~= 0 and (h.earliest == 0 or x < h.earliest) then
        h.earliest = x
      end
    end
  end
end

local function fits(size)
  return h.n - h.done < most and h.bytes + size <= room
end

-- dropOldest gives up the oldest entry that the client has not answered.
local place = 1
local function dropOldest()
  while place <= h.n do
    local e = redis.call('LINDEX', KEYS[1], place)
    place = place + 1
    if e ~= '' and string.byte(e, 1) == 112 then
      finish(KEYS[1], h, place - 1, e)
      return true
    end
  end
end

count()
local result, went = {'', 0, 0}, 0
for i = 4, #ARGV, 3 do
  local e, field, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local at = field ~= '' and seen(KEYS[2], KEYS[3], field, value)
  if not at then
    at = 0
    if not fits(#e) then
      expire()
    end
    while not fits(#e) and oldest and #e <= room and dropOldest() do
      went = went + 1
    end
    if fits(#e) then
      h.n = redis.call('RPUSH', KEYS[1], e) - 1
      at = h.base + h.n
      h.bytes, h.upto = h.bytes + #e, at
      local x = expires(e)
      if x ~= 0 and (h.earliest == 0 or x < h.earliest) then
        h.earliest = x
      end
      if field ~= '' then
        see(KEYS[2], KEYS[3], field, value, at)
      end
    end
  end
  result[#result + 1] = at
end
settleHead(KEYS[1], h)
result[1], result[2], result[3] = headerText(h), h.n, went
return result
