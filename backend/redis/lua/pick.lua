-- Remembers who was chosen in a shared group for a message with an identity, so
-- that a repetition goes the same way.
-- KEYS   1 and 2 choices, as in lib_seen
-- ARGV   1 field and 2 value of the identity, 3 choice, 4 whether it replaces
--        an earlier one
-- Result the choice that holds.
for _, key in ipairs({KEYS[1], KEYS[2]}) do
  local known = redis.call('HGET', key, ARGV[1])
  if known and ARGV[4] ~= '1' then
    local space = string.find(known, ' ', 1, true)
    if string.sub(known, 1, space - 1) == ARGV[2] then
      return string.sub(known, space + 1)
    end
    break
  end
end
if redis.call('HLEN', KEYS[1]) >= SEEN then
  redis.call('RENAME', KEYS[1], KEYS[2])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], SEEN_MS)
return ARGV[3]
