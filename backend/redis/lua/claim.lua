-- Gives the session of a client to a connection under a new epoch; makes the
-- session where there is none. Atomic, so that of two that claim at once one
-- fences the other, and each will fires once.
-- KEYS   as in lib_session
-- ARGV   4 gateway, 5 end of its lease in ms, 6 ticket in its list of
--        clients, 7 principal, 8 clean start, 9 expiry, 10 has a will, 11 its
--        message, 12 its delay, 13 its message expiry or '', 14 gateway whose
--        lease has ended or '', 15 when it ended in ms, 16 least epoch,
--        17 how many entries may be under way at once, 0 if that is not known,
--        18 whose will it is
-- Result {-1} lease of the gateway ended, {-2, ...} see moved, {-4} another
--        principal's; else as answer, with present, durable, incarnation,
--        epoch, previous epoch, gateway and ticket, base, last, sent, inbox,
--        version, members, subscriptions, replays, receipts.
if now >= tonumber(ARGV[5]) then
  return {-1}
end
local elsewhere = moved()
if elsewhere then
  return elsewhere
end
local before, epoch = {0, '', ''}, tonumber(s.epoch or 0)
if s.node and not (s.node == ARGV[4] and s.ticket == ARGV[6]) then
  before = {epoch, s.node, s.ticket} -- else this is a repetition
end
settle(ARGV[14], tonumber(ARGV[15]))
if s.epoch and s.principal ~= ARGV[7] then
  return {-4}
end
local present = s.epoch and ARGV[8] == '0' and s.durable == '1' and not (s.node and s.expiry == '0')
if s.epoch then
  redis.call('PERSIST', KEYS[1]) -- a full server has room for it; see lib_room
end
if s.epoch and not present then
  finishSession()
end
local fields = {} -- of meta, in one command: a client that connects waits for it
local function note(field, value)
  s[field] = value
  fields[#fields + 1] = field
  fields[#fields + 1] = value
end
epoch = math.max(epoch + 1, us, tonumber(ARGV[16]))
if present then
  if s.node then
    local h = inboxHeader()
    noteSent(h, false, 0)
    setHeader(inbox, h)
    if s.will and s.wdelay == '0' then
      fireWill()
    end
  end
  dropWill() -- one whose delay has not passed is not published [MQTT-3.1.3-9]
  unset('eat')
else
  note('inc', int(epoch))
  note('principal', ARGV[7])
  note('durable', ARGV[9] == '0' and '0' or '1')
  note('sent', '0')
  note('ver', '0')
  note('members', '0')
  if s.durable == '1' then
    inbox = KEYS[3]
    note('box', ARGV[3])
    redis.call('RPUSH', inbox, '0 0 0 0 0 0 0 ')
  end
end
note('epoch', int(epoch))
note('node', ARGV[4])
note('ticket', ARGV[6])
note('expiry', ARGV[9])
note('window', ARGV[17])
if ARGV[10] == '1' then
  note('will', ARGV[11])
  note('wdelay', ARGV[12])
  note('wexpiry', ARGV[13])
  if ARGV[18] ~= '' then
    note('wowner', ARGV[18])
  end
end
redis.call('HSET', KEYS[1], unpack(fields))
local base, last, sent = 0, 0, 0
if s.durable == '1' then
  local h = inboxHeader()
  h.epoch, h.node = s.epoch, s.node
  setHeader(inbox, h)
  base, last, sent = h.base, h.base + h.n, math.max(h.base, tonumber(s.sent))
end
local subs, replays, receipts = {}, {}, {}
if present then
  if members() > 0 then
    turn()
  end
  subs, replays, receipts = redis.call('HGETALL', KEYS[5]), redis.call('HGETALL', KEYS[6]), redis.call('HGETALL', KEYS[4])
end
return answer({
  present and 1 or 0, tonumber(s.durable), tonumber(s.inc), epoch, before[1], before[2], before[3],
  base, last, sent, s.box or '', tonumber(s.ver), members(), subs, replays, receipts,
})
