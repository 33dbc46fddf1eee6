-- Ends one session, or all that a user's index names.
--
-- KEYS     index, feed, then for each session: session, denylist entry
-- ARGV[1]  why
-- ARGV[2]  "" to end the sessions named; else the index must begin with them,
--          in this order, and name no more, or nothing is done
-- ARGV[3]  a session to leave alone, or ""
-- ARGV[4]  how long a tombstone lies (ms)
-- ARGV[5]… the sessions' ids
--
-- Reply    KEYS[1], then "changed" and 0, or "ended" and how many sessions ended
--          by this run, and for each session that it denied: its id, and until
--          when it is denied (Unix seconds)
--
-- For each session: deny, tell the feed, mark the tombstone, leave the index,
-- and last of all drop the fields. Until that last write a second run finds
-- all it needs to complete the first.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

if ARGV[2] ~= '' then
  -- Those that are named and have left the index are over. That they are ended
  -- again does no harm.
  for i, sid in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    if sid ~= ARGV[i + 4] then
      return {KEYS[1], 'changed', 0}
    end
  end
end

local reply = {KEYS[1], 'ended', 0}
for i = 5, #ARGV do
  local sid = ARGV[i]
  local session = KEYS[2 * i - 7]
  local l, x, done = unpack(redis.call('HMGET', session, 'l', 'x', 'end'))
  if sid ~= ARGV[3] then
    if l then
      -- Not only what this Redis granted: one that came back older than its
      -- clients does not know of all that was.
      local exp = math.max(tonumber(x), math.floor(now / 1000) + l)
      reply[#reply + 1] = sid
      reply[#reply + 1] = deny(KEYS[2 * i - 6], KEYS[2], 'sid', sid, exp, now)
      if not done then
        redis.call('HSET', session, 'end', now, 'why', ARGV[1])
        done = now
        reply[3] = reply[3] + 1
      end
      redis.call('PEXPIREAT', session, done + ARGV[4])
    end
    redis.call('ZREM', KEYS[1], sid)
    if l then
      local drop = {}
      for _, field in ipairs(redis.call('HKEYS', session)) do
        if field ~= 'end' and field ~= 'why' then
          drop[#drop + 1] = field
        end
      end
      redis.call('HDEL', session, unpack(drop))
    end
  end
end
return reply
