-- Ends the session of a client, attached or not.
-- KEYS   as in lib_session
-- ARGV   4 gateway whose lease has ended or '', 5 when it ended in ms
-- Result {-2, ...} see moved; else as answer, with epoch, gateway and ticket
--        of the connection that was up.
local elsewhere = moved()
if elsewhere then
  return elsewhere
end
local before = {0, '', ''}
if s.node then
  before = {tonumber(s.epoch), s.node, s.ticket}
end
settle(ARGV[4], tonumber(ARGV[5]))
if s.epoch then
  finishSession()
end
return answer(before)
