-- Reads a user's sessions, and takes those that are gone out of the index.
--
-- KEYS     index, then the sessions
-- ARGV     the sessions' ids
--
-- Reply    KEYS[1], then the fields of each session, none for one that is gone
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local reply = {KEYS[1]}
for i, sid in ipairs(ARGV) do
  local key = KEYS[i + 1]
  local r, i_, a = unpack(redis.call('HMGET', key, 'r', 'i', 'a'))
  if r and now < math.min(r + i_ * 1000, a * 1000) and redis.call('HEXISTS', key, 'end') == 0 then
    reply[i + 1] = redis.call('HGETALL', key)
  else
    redis.call('ZREM', KEYS[1], sid)
    reply[i + 1] = {}
  end
end
return reply
