-- For scripts that act on a whole session.
-- KEYS   1 meta, 2 inbox, 3 inbox under its next name, 4 receipts,
--        5 subscriptions, 6 replays, 7 and 8 identities seen by the inbox,
--        9 chores, 10 times of the chores
-- ARGV   1 name of the inbox, 2 incarnation, for which the keys were taken;
--        3 next name of the inbox
-- s is the session as it is in meta; s.epoch is nil if there is none.
local CLAIM_MS, CHORE_ENTRIES, RECEIPTS_MS = 5000, 64, 60000
local NEVER = '4294967295'

local s, inbox = {}, KEYS[2]
do
  local raw = redis.call('HGETALL', KEYS[1])
  for i = 1, #raw, 2 do
    s[raw[i]] = raw[i + 1]
  end
end

-- inboxHeader returns the header of the session's inbox. One that is missing,
-- which no script brings about, is begun anew behind what was sent.
local function inboxHeader()
  local h = header(inbox)
  if not h then
    redis.call('RPUSH', inbox, int(tonumber(s.sent)) .. ' 0 0 0 0 0 ' .. int(tonumber(s.sent)) .. ' ')
    h = header(inbox)
  end
  return h
end

-- What the script did, for its answer.
local claimed, change, gone, made = {}, {}, {}, 0

local function set(field, value)
  s[field] = value
  redis.call('HSET', KEYS[1], field, value)
end

local function unset(field)
  if s[field] then
    s[field] = nil
    redis.call('HDEL', KEYS[1], field)
  end
end

-- moved returns nil, or {-2, inbox, incarnation, gateway} if the keys are not
-- those of the session.
local function moved()
  if (s.box or '') ~= ARGV[1] or (s.inc or '0') ~= ARGV[2] then
    return {-2, s.box or '', s.inc or '0', s.node or ''}
  end
end

-- chore leaves a piece of work, handed out to the caller until its claim ends.
local function chore(payload)
  made = made + 1
  local id = string.format('%014x%04x', us, made) .. string.sub(redis.sha1hex(KEYS[1]), 1, 10)
  redis.call('HSET', KEYS[9], id, payload)
  redis.call('ZADD', KEYS[10], now + CLAIM_MS, id)
  claimed[#claimed + 1] = id
  claimed[#claimed + 1] = payload
end

local function dropWill()
  unset('will')
  unset('wdelay')
  unset('wexpiry')
  unset('wowner')
  unset('wat')
end

-- fireWill makes a chore of the will, if there still is one: it fires once.
local function fireWill()
  if s.will then
    local owner = s.wowner or ''
    chore('w' .. int(now) .. ' ' .. s.wexpiry .. ' ' .. int(#owner) .. ' ' .. owner .. s.will)
    dropWill()
  end
end

-- noteSent moves the mark of what has certainly never been sent; the caller
-- writes the header. A connection that was lost may have sent everything that
-- its window allowed: of the entries from the front so many that were not done,
-- and those that were done among them.
local function noteSent(h, known, sent)
  if known and sent <= 9007199254740992 then -- else an error of the caller
    reach(inbox, h, sent)
  end
  local last = h.base + h.n
  if not known then
    sent = last
    if (s.window or '0') ~= '0' then
      sent = h.base + tonumber(s.window) + h.done
    end
  end
  h.sent = math.min(math.max(tonumber(s.sent), sent), last)
  set('sent', int(h.sent))
end

-- requeue moves entries that came by a shared subscription, and that the
-- client has not answered, from the inbox into chores: those of QoS 1, and at
-- the end of a session those of QoS 2 that were never sent [MQTT-4.8.2-4],
-- [MQTT-4.8.2-5].
local function requeue(h, ending)
  if not s.shared then
    return
  end
  local batch, sent = {}, tonumber(s.sent)
  local function flush()
    if #batch > 0 then
      chore('q' .. table.concat(batch))
      batch = {}
    end
  end
  for from = 1, h.n, CHUNK do
    local list = redis.call('LRANGE', inbox, from, from + CHUNK - 1)
    for j = 1, #list do
      local e, i = list[j], from + j - 1
      if e ~= '' and string.byte(e, 1) == 112 and string.byte(e, 2) >= 4 then
        local qos = string.byte(e, 2) % 4
        if qos == 1 or (ending and h.base + i > sent) then
          batch[#batch + 1] = int(h.base + i) .. ' ' .. int(#e) .. ' ' .. e
          finish(inbox, h, i, e)
          if #batch == CHORE_ENTRIES then
            flush()
          end
        end
      end
    end
  end
  flush()
end

-- turn gives the session a new version for the index and its inbox a new name:
-- who appends with older knowledge finds no inbox, and looks again.
local function turn()
  change = {change[1] or tonumber(s.ver), math.max(tonumber(s.ver) + 1, us)}
  set('ver', int(change[2]))
  if s.durable == '1' then
    redis.call('RENAME', inbox, KEYS[3])
    inbox = KEYS[3]
    set('box', ARGV[3])
  end
end

local function members()
  return tonumber(s.members)
end

-- finishSession ends the session with its will.
local function finishSession()
  if s.durable == '1' then
    local h = inboxHeader()
    if s.node then
      noteSent(h, false, 0)
    end
    fireWill()
    requeue(h, true)
  else
    fireWill()
  end
  if s.ver ~= '0' then
    gone = {math.max(tonumber(s.ver) + 1, us)}
    if s.shared then
      for _, filter in ipairs(redis.call('HKEYS', KEYS[5])) do
        if string.sub(filter, 1, 7) == '$share/' then
          gone[#gone + 1] = filter
        end
      end
    end
  end
  redis.call('UNLINK', KEYS[1], inbox, KEYS[5], KEYS[6], KEYS[7], KEYS[8])
  redis.call('PEXPIRE', KEYS[4], RECEIPTS_MS)
  chore('e')
  s, change = {}, {}
end

-- detach takes the session from its connection, which ended at the given time,
-- and ends it if it is not to outlive that.
local function detach(at, keepWill, known, sent)
  if s.durable ~= '1' or s.expiry == '0' then
    if s.durable == '1' then
      noteSent(inboxHeader(), known, sent)
    end
    if not keepWill then
      dropWill()
    end
    unset('node')
    finishSession()
    return
  end
  unset('node')
  unset('ticket')
  local h = inboxHeader()
  noteSent(h, known, sent)
  if not keepWill then
    dropWill()
  end
  if s.will and s.wdelay == '0' then
    fireWill()
  end
  requeue(h, false)
  h.epoch, h.node = '0', ''
  settleHead(inbox, h)
  if s.will then
    set('wat', int(at + tonumber(s.wdelay) * 1000))
  end
  if s.expiry ~= NEVER then
    set('eat', int(at + tonumber(s.expiry) * 1000))
  end
  if members() > 0 then
    turn()
  end
end

-- settle does what is overdue: it takes the session from a gateway whose lease
-- ended at the given time, fires its will, ends it. From ticket newer on it is
-- the gateway's that has come back under its name, which is not dead.
local function settle(dead, at, newer)
  if not s.epoch then
    return
  end
  if s.node then
    if s.node ~= dead or newer and tonumber(s.ticket) >= newer then
      return
    end
    detach(at, true, false, 0)
  end
  if s.eat and now >= tonumber(s.eat) then
    finishSession()
  elseif s.wat and now >= tonumber(s.wat) then
    fireWill()
  end
end

-- nextTime returns when there is something to do for the client again, 0 for
-- never.
local function nextTime()
  local t = 0
  local function at(other)
    if other and (t == 0 or tonumber(other) < t) then
      t = tonumber(other)
    end
  end
  at(redis.call('ZRANGE', KEYS[10], 0, 0, 'WITHSCORES')[2])
  if s.epoch and not s.node then
    at(s.wat)
    at(s.eat)
  end
  return t
end

-- answer is what all scripts on sessions answer: when to look again, chores,
-- how the index must change (version before and after, inbox, durable), the
-- version of the end of the session with the shared filters that it leaves,
-- and the store's clock in microseconds.
local function answer(more)
  if change[1] then
    change[3], change[4] = s.box or '', tonumber(s.durable)
  end
  return {0, nextTime(), claimed, change, gone, us, more}
end
