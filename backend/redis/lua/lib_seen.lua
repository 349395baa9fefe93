-- The identities of what was put into a list, so that nothing is put there
-- twice: field is the sender and packet identifier, value its incarnation and
-- generation and, behind a space, where it was put. There are two hashes, the
-- newer and the older: when the newer is full it becomes the older. So at
-- least SEEN identities are remembered, in constant time.
local SEEN, SEEN_MS = 4096, 86400000

-- seen returns where the identity was put, or nil.
local function seen(newer, older, field, value)
  for _, key in ipairs({newer, older}) do
    local known = redis.call('HGET', key, field)
    if known then
      local id, place = string.match(known, '^(%S*) (%d+)$')
      if id == value then
        return tonumber(place)
      end
      return nil
    end
  end
end

local function see(newer, older, field, value, place)
  if redis.call('HLEN', newer) >= SEEN then
    redis.call('RENAME', newer, older)
  end
  redis.call('HSET', newer, field, value .. ' ' .. int(place))
  redis.call('PEXPIRE', newer, SEEN_MS)
end
