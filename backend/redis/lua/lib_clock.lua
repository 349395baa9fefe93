-- The store's clock, the same for the whole script: in microseconds and in
-- milliseconds since 1970.
local time = redis.call('TIME')
local us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now = math.floor(us / 1000)

-- int writes a number without exponent or fraction.
local function int(n)
  return string.format('%.0f', n)
end
