-- Creates a session.
--
-- KEYS     session, index of the user's sessions[, a hash to be guarded by]
-- ARGV[1]  the session's id
-- ARGV[2]  field of the guard, ARGV[3] the value it must still have
-- ARGV[4]  idle lifetime, ARGV[5] absolute lifetime, ARGV[6] access lifetime (s)
-- ARGV[7]… further fields and values
--
-- Reply    KEYS[1], "0", verdict, now (ms), how many sessions the index names,
--          the session's fields
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function answer(verdict)
  return {KEYS[1], '0', verdict, now, redis.call('ZCARD', KEYS[2]), redis.call('HGETALL', KEYS[1])}
end

-- What the login was checked against has changed meanwhile.
if KEYS[3] and redis.call('HGET', KEYS[3], ARGV[2]) ~= ARGV[3] then
  return answer('guard')
end
if redis.call('HEXISTS', KEYS[1], 'end') == 1 then
  return answer('ended')
end
-- It is there if the answer to the first run was lost, or if the network
-- delivers the first run a second time, perhaps long after: only the expiry
-- can be missing, and nothing that has happened since is undone.
local r, i, a = unpack(redis.call('HMGET', KEYS[1], 'r', 'i', 'a'))
if r then
  redis.call('PEXPIREAT', KEYS[1], math.min(r + i * 1000, a * 1000))
  return answer('created')
end

-- The index first: a session that is not in it could not be ended with the
-- user's others. It comes last there even if the clock went back: the login
-- must not be what makes room for itself.
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
redis.call('ZADD', KEYS[2], math.max(now, (last[2] or 0) + 1), ARGV[1])
if redis.call('PTTL', KEYS[2]) < ARGV[5] * 1000 then
  redis.call('PEXPIRE', KEYS[2], ARGV[5] * 1000)
end

local seconds = math.floor(now / 1000)
local absolute = seconds + ARGV[5]
-- In one write: half a session could neither be used nor listed.
redis.call('HSET', KEYS[1],
  'g', 0,
  'r', now,
  'o', seconds,
  'a', absolute,
  'i', ARGV[4],
  'l', ARGV[6],
  'x', math.min(seconds + ARGV[6], absolute),
  unpack(ARGV, 7))
redis.call('PEXPIREAT', KEYS[1], math.min(now + ARGV[4] * 1000, absolute * 1000))
return answer('created')
