-- Remembers who was chosen in a shared group for a message with an identity, so
-- that a repetition goes the same way. What is remembered is the identity's
-- value, whether somebody has repeated the message since, and the choice.
-- KEYS   1 and 2 choices, as in lib_seen
-- ARGV   1 field and 2 value of the identity, 3 choice, 4 whether it replaces
--        an earlier one: 0 no, 1 unless that was given to somebody who repeats
--        the message, and who may have stored it, 2 yes
-- Result the choice that holds.
for _, key in ipairs({KEYS[1], KEYS[2]}) do
  local known = redis.call('HGET', key, ARGV[1])
  if known then
    local space = string.find(known, ' ', 1, true)
    if string.sub(known, 1, space - 1) ~= ARGV[2] then
      break
    end
    local repeated, choice = string.sub(known, space + 1, space + 1), string.sub(known, space + 2)
    if ARGV[4] == '0' and repeated == '0' then
      redis.call('HSET', key, ARGV[1], ARGV[2] .. ' 1' .. choice)
    end
    if ARGV[4] == '0' or ARGV[4] == '1' and repeated == '1' then
      return choice
    end
    redis.call('HSET', key, ARGV[1], ARGV[2] .. ' ' .. repeated .. ARGV[3])
    return ARGV[3]
  end
end
if redis.call('HLEN', KEYS[1]) >= SEEN then
  redis.call('RENAME', KEYS[1], KEYS[2])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' 0' .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], SEEN_MS)
return ARGV[3]
