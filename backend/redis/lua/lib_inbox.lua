-- An inbox is a list. Element 0 is a header; the entry with sequence base+i is
-- element i. An entry that is done is the empty string. Of others byte 1 is
-- the state ('p' pending, 'r' released), byte 2 the QoS and, from 4 on, the
-- mark of a shared subscription, bytes 3 to 10 are when the message expires in
-- ms (0 never) as a big-endian double.
--
-- The header: base, epoch of the connection (0 none), how many entries above
-- base are done, and, once the inbox was found half full: up to which sequence
-- bytes were counted, how many of what is not done, and the earliest time at
-- which one of those expires; then up to which sequence entries may have been
-- sent over earlier connections, so that they do not expire any more
-- [MQTT-4.3.3-7]; last the gateway of the connection.
local CHUNK = 128

local function header(inbox)
  local h = redis.call('LINDEX', inbox, 0)
  if not h then
    return nil
  end
  local base, epoch, done, upto, bytes, earliest, sent, node =
    string.match(h, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (.*)$')
  return {
    base = tonumber(base), epoch = epoch, done = tonumber(done), upto = tonumber(upto),
    bytes = tonumber(bytes), earliest = tonumber(earliest), sent = tonumber(sent), node = node,
    n = redis.call('LLEN', inbox) - 1,
  }
end

local function headerText(h)
  return int(h.base) .. ' ' .. h.epoch .. ' ' .. int(h.done) .. ' ' .. int(h.upto) .. ' '
    .. int(h.bytes) .. ' ' .. int(h.earliest) .. ' ' .. int(h.sent) .. ' ' .. h.node
end

local function setHeader(inbox, h)
  redis.call('LSET', inbox, 0, headerText(h))
end

-- expires returns when the message of an entry expires, 0 for never.
local function expires(e)
  return (struct.unpack('>d', e, 3))
end

-- finish marks entry i, which is e and not done, as done.
local function finish(inbox, h, i, e)
  redis.call('LSET', inbox, i, '')
  h.done = h.done + 1
  if h.base + i <= h.upto then
    h.bytes = h.bytes - #e
  end
end

-- drop removes the first k entries.
local function drop(inbox, h, k)
  if k <= 0 then
    return
  end
  if h.done > 0 or h.upto > h.base then
    for from = 1, k, CHUNK do
      local list = redis.call('LRANGE', inbox, from, math.min(from + CHUNK - 1, k))
      for j = 1, #list do
        if list[j] == '' then
          h.done = h.done - 1
        elseif h.base + from + j - 1 <= h.upto then
          h.bytes = h.bytes - #list[j]
        end
      end
    end
  end
  redis.call('LTRIM', inbox, k, -1) -- what is first now becomes the header
  h.base = h.base + k
  h.n = h.n - k
  if h.n == 0 then
    h.upto, h.bytes, h.earliest = 0, 0, 0
  end
end

-- reach makes an inbox that has lost its newest entries end with the given
-- sequence, or one with the same packet identifier: what comes next gets
-- neither a sequence nor an identifier that was in use.
local function reach(inbox, h, last)
  local missing = last - h.base - h.n
  if missing <= 0 then
    return
  end
  if h.n == 0 then
    h.base = last
    return
  end
  missing = (missing - 1) % 65535 + 1
  local none = {}
  for i = 1, math.min(missing, CHUNK) do
    none[i] = ''
  end
  for left = missing, 1, -CHUNK do
    redis.call('RPUSH', inbox, unpack(none, 1, math.min(left, CHUNK)))
  end
  h.n, h.done = h.n + missing, h.done + missing
end

-- settleHead drops what is done at the front and writes the header.
local function settleHead(inbox, h)
  local k = 0
  while h.done > k and k < h.n do
    local list = redis.call('LRANGE', inbox, k + 1, k + CHUNK)
    local j = 1
    while j <= #list and list[j] == '' do
      j = j + 1
    end
    k = k + j - 1
    if j <= #list then
      break
    end
  end
  drop(inbox, h, k)
  setHeader(inbox, h)
end
