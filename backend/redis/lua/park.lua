-- Puts messages into the queue of a shared group, within its limits, and those
-- with an identity once. An element is its number, a space, and the entry as
-- in lib_inbox.
-- KEYS   1 members with versions, 2 queue, 3 figures (number of the newest,
--        bytes, earliest expiry), 4 and 5 identities
-- ARGV   as in append
-- Result {} without members; else {how many older ones went, then for each
--        message its number, 0 if it was refused}.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {}
end
local f = redis.call('HMGET', KEYS[3], 'newest', 'bytes', 'earliest')
local newest, bytes, earliest = tonumber(f[1] or 0), tonumber(f[2] or 0), tonumber(f[3] or 0)
local most, room, oldest = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local n = redis.call('LLEN', KEYS[2])
if n == 0 then
  bytes, earliest = 0, 0
end

local function entry(element)
  return string.sub(element, string.find(element, ' ', 1, true) + 1)
end

-- expire drops what has expired.
local function expire()
  if earliest == 0 or now < earliest then
    return
  end
  local list = redis.call('LRANGE', KEYS[2], 0, -1)
  redis.call('DEL', KEYS[2])
  n, bytes, earliest = 0, 0, 0
  for _, element in ipairs(list) do
    local x = expires(entry(element))
    if x == 0 or x > now then
      n = redis.call('RPUSH', KEYS[2], element)
      bytes = bytes + #element
      if x ~= 0 and (earliest == 0 or x < earliest) then
        earliest = x
      end
    end
  end
end

local function fits(size)
  return n < most and bytes + size <= room
end

local result, went = {0}, 0
for i = 4, #ARGV, 3 do
  local field, value = ARGV[i + 1], ARGV[i + 2]
  local at = field ~= '' and seen(KEYS[4], KEYS[5], field, value)
  if not at then
    at = 0
    local element = int(newest + 1) .. ' ' .. ARGV[i]
    if not fits(#element) then
      expire()
    end
    while not fits(#element) and oldest and n > 0 do
      bytes = bytes - #redis.call('LPOP', KEYS[2])
      n = n - 1
      went = went + 1
    end
    if fits(#element) then
      newest = newest + 1
      at = newest
      n = redis.call('RPUSH', KEYS[2], element)
      bytes = bytes + #element
      local x = expires(ARGV[i])
      if x ~= 0 and (earliest == 0 or x < earliest) then
        earliest = x
      end
      if field ~= '' then
        see(KEYS[4], KEYS[5], field, value, at)
      end
    end
  end
  result[#result + 1] = at
end
redis.call('HSET', KEYS[3], 'newest', int(newest), 'bytes', int(bytes), 'earliest', int(earliest))
result[1] = went
return result
