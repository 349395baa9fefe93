-- Finds retained messages of one bucket whose topics match a filter, from a
-- place on, in order. It jumps over what can not match and looks at a bounded
-- number of topics.
-- KEYS   as in lib_retained
-- ARGV   1 place: '[' or '(' and a topic with NUL for '/', as in ZRANGEBYLEX,
--        2 most messages, 3 most bytes, 4 most topics to look at, 5 whether
--        the filter ends with '/#', 6 the first level that is '+', from 0, or
--        how many levels there are, then the levels without '#'
-- Result {place to go on, '' if nothing is left, then messages}.
local from, most, room, steps = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local below, wild = ARGV[5] == '1', tonumber(ARGV[6])
local levels = {}
for i = 7, #ARGV do
  levels[i - 6] = ARGV[i]
end

-- before compares bytes; the language's own comparison depends on the locale.
local function before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

-- check tells whether a topic matches, and from where on the next one can; nil
-- is right behind it, '' nowhere.
local function check(topic)
  if wild == 0 and string.byte(topic, 1) == 36 then
    return false, '[%' -- behind all that begin with '$' [MQTT-4.7.2-1]
  end
  local pos = 1 -- where the next level begins
  for i, want in ipairs(levels) do
    if pos > #topic + 1 then -- too short
      if want == '+' then
        return false
      end
      return false, '[' .. topic .. '\0' .. want
    end
    local stop = string.find(topic, '\0', pos, true) or #topic + 1
    local level = string.sub(topic, pos, stop - 1)
    if want == '+' or want == level then
      pos = stop + 1
    elseif before(level, want) then
      return false, '[' .. string.sub(topic, 1, pos - 1) .. want
    elseif i <= wild + 1 then
      return false, ''
    else
      return false, '[' .. string.sub(topic, 1, pos - 2) .. '\1'
    end
  end
  if below then
    return true
  end
  return pos > #topic + 1, '[' .. string.sub(topic, 1, pos - 2) .. '\1'
end

local result, n, bytes, chunk = {''}, 0, 0, 16
while from ~= '' do
  if steps <= 0 or n >= most or bytes >= room then
    result[1] = from
    return result
  end
  local list = redis.call('ZRANGEBYLEX', KEYS[2], from, '+', 'LIMIT', 0, chunk)
  if #list == 0 then
    return result
  end
  chunk = 128
  for _, topic in ipairs(list) do
    local jumped = string.byte(from, 1) == 91 and before(topic, string.sub(from, 2))
    if steps <= 0 or n >= most or bytes >= room or jumped then
      if jumped then
        chunk = 16
      end
      break
    end
    steps = steps - 1
    local matches, jump = check(topic)
    if matches then
      local value = redis.call('HGET', KEYS[1], (string.gsub(topic, '%z', '/')))
      local x = value and tonumber(string.match(value, '^%d+')) or now
      if x == 0 or x > now then
        n = n + 1
        bytes = bytes + #value
        result[#result + 1] = value
      end
    end
    from = jump or ('(' .. topic)
    if from == '' then
      return result
    end
  end
end
return result
