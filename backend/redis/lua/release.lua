-- Takes a session from its connection, if the lease still holds, and ends it
-- if it is not to outlive that.
-- KEYS   as in lib_session
-- ARGV   4 epoch, 5 gateway, 6 end of its lease in ms, 7 keep the will,
--        8 expiry or '' for what it was, 9 newest entry that was sent
-- Result {-1} fenced, {-2, ...} see moved; else as answer, with the ticket.
if s.epoch ~= ARGV[4] or s.node ~= ARGV[5] or now >= tonumber(ARGV[6]) then
  return {-1}
end
local elsewhere = moved()
if elsewhere then
  return elsewhere
end
local ticket = s.ticket
if ARGV[8] ~= '' then
  set('expiry', ARGV[8])
end
detach(now, ARGV[7] == '1', true, tonumber(ARGV[9]))
return answer(ticket)
