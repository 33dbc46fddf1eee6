-- Creates a session.
--
-- KEYS     session, index of the user's sessions[, a hash to be guarded by]
-- ARGV[1]  the session's id
-- ARGV[2]  how many sessions a user may have
-- ARGV[3]  field of the guard, ARGV[4] the value it must still have
-- ARGV[5]  idle lifetime, ARGV[6] absolute lifetime, ARGV[7] access lifetime (s)
-- ARGV[8]  when the user authenticated (Unix s), or "" for now
-- ARGV[9]… further fields and values
--
-- Reply    KEYS[1], "0", verdict, now (ms), 0, the session's fields
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function answer(verdict)
  return {KEYS[1], '0', verdict, now, 0, redis.call('HGETALL', KEYS[1])}
end

-- What the login was checked against has changed meanwhile.
if KEYS[3] and redis.call('HGET', KEYS[3], ARGV[3]) ~= ARGV[4] then
  return answer('guard')
end
if redis.call('HEXISTS', KEYS[1], 'end') == 1 then
  return answer('ended')
end
-- The session is there if the answer to the first run was lost: its instants
-- stay, and so does the place it took.
local began = redis.call('HGET', KEYS[1], 'r')
if began then
  now = tonumber(began)
elseif redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[2]) then
  return answer('full')
end

-- The index first: a session that is not in it could not be ended with the
-- user's others.
redis.call('ZADD', KEYS[2], now, ARGV[1])
if redis.call('PTTL', KEYS[2]) < ARGV[6] * 1000 then
  redis.call('PEXPIRE', KEYS[2], ARGV[6] * 1000)
end

local seconds = math.floor(now / 1000)
local absolute = seconds + ARGV[6]
redis.call('HSET', KEYS[1],
  'g', 0,
  'r', now,
  'o', seconds,
  'u', ARGV[8] == '' and seconds or ARGV[8],
  'a', absolute,
  'i', ARGV[5],
  'l', ARGV[7],
  'x', math.min(seconds + ARGV[7], absolute))
for i = 9, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('PEXPIREAT', KEYS[1], math.min(now + ARGV[5] * 1000, absolute * 1000))
return answer('created')
