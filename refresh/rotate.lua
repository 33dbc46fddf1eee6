-- Rotates a session's refresh token, or says why not.
--
-- KEYS[1]  the session
-- ARGV[1]  the generation of the token presented
-- ARGV[2]  how it arrived: "b" in a body, "a" in a body and with its client's
--          credentials, "c" in a cookie
-- ARGV[3]  the client that presents it, or "" if it did not say
-- ARGV[4]  the hash of the request's retry key
-- ARGV[5]  "1" if the client sent that key, "" if the service made it up
-- ARGV[6]  the scope that the access token should have, "" for the session's
-- ARGV[7]  the time (ms) in which one more grant is allowed, "0" for no limit
-- ARGV[8]  how many grants may come at once
--
-- Reply    KEYS[1], ARGV[1], verdict, now (ms), how many generations the token
--          was ahead of the session, the session's fields
--
-- KEYS[1] and ARGV[1] come back so that an answer meant for another request
-- cannot be mistaken for this one's.
--
-- The session is the only key: with one key the script works before and after
-- the slot has moved to another master, and has nothing to leave half done.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local ahead = 0

local function answer(verdict)
  return {KEYS[1], ARGV[1], verdict, now, ahead, redis.call('HGETALL', KEYS[1])}
end

local flat = redis.call('HGETALL', KEYS[1])
if #flat == 0 then
  return answer('missing')
end
local s = {}
for i = 1, #flat, 2 do
  s[flat[i]] = flat[i + 1]
end
if s['end'] then
  return answer('ended')
end
-- A session of a client that had no credentials yet takes them too.
local arrived = s.t == ARGV[2] or (s.t == 'b' and ARGV[2] == 'a')
if not arrived or (ARGV[3] ~= '' and ARGV[3] ~= s.c) then
  return answer('client')
end

local function lives_until(refreshed)
  return math.min(refreshed + s.i * 1000, s.a * 1000)
end

local rotated = tonumber(s.r)
-- The key's own time to live says nearly the same, but not exactly, and not
-- when the clock has stepped.
if now >= lives_until(rotated) then
  return answer('missing')
end

-- Too much scope is refused before the token is spent.
local scope = ' ' .. (s.sc or '') .. (s.sc1 or '') .. (s.sc2 or '') .. (s.sc3 or '') .. ' '
for word in string.gmatch(ARGV[6], '[^ ]+') do
  if not string.find(scope, ' ' .. word .. ' ', 1, true) then
    return answer('scope')
  end
end

local presented = tonumber(ARGV[1])
ahead = presented - s.g
local age = now - rotated
local in_window = age >= 0 and age < tonumber(s.w)
local cookie = s.t == 'c'
local keys = s.k or ''

-- The limit on grants is kept as the time when it will be full again. It is a
-- distance from the last rotation: a number that small costs the session little.
-- Only what would be granted is limited: a replay is noticed however many there
-- are of it.
local interval = tonumber(ARGV[7])
local whole = interval * ARGV[8]
local full = rotated + tonumber(s.q or 0)
-- Nothing is that long until the clock goes back. Then it starts anew, or the
-- session could not be refreshed until the clock is where it was.
if full > now + whole then
  full = now
end
full = math.max(full, now) + interval
local over = full > now + whole -- never without a limit: all of these are now

local function same()
  if over then
    return answer('limit')
  end
  if interval > 0 then
    redis.call('HSET', KEYS[1], 'q', full - rotated)
  end
  return answer('same')
end

-- Reloads and many tabs share a cookie: one rotation a window is enough.
if ahead == 0 and cookie and in_window then
  return same()
end

-- Ahead means that Redis came back older than its clients. The token is
-- genuine, so the session has been where it says.
if ahead >= 0 then
  if over then
    return answer('limit')
  end
  local granted = math.min(math.floor(now / 1000) + s.l, tonumber(s.a))
  redis.call('HDEL', KEYS[1], 'n')
  redis.call('HSET', KEYS[1],
    'g', presented + 1,
    'r', now,
    'k', ARGV[4] .. string.sub(keys, 1, 24),
    'x', math.max(tonumber(s.x), granted))
  if interval > 0 then
    redis.call('HSET', KEYS[1], 'q', full - now)
  end
  redis.call('PEXPIREAT', KEYS[1], lives_until(now))
  return answer('rotated')
end

if ahead == -1 then
  -- The answer was lost and the client asks again.
  if string.sub(keys, 1, 8) == ARGV[4] then
    -- The rotation may have been cut off just before this.
    redis.call('PEXPIREAT', KEYS[1], lives_until(rotated))
    return same()
  end
  -- Several tabs at once, or a client that cannot name its retries.
  if in_window and (cookie or ARGV[5] == '') then
    if tonumber(s.n or 0) >= 8 then
      return answer('often')
    end
    if not over then
      redis.call('HINCRBY', KEYS[1], 'n', 1)
    end
    return same()
  end
  -- Redis's clock went back. Whether the window is open cannot be told, and
  -- guessing would either end a good session or never close the window.
  if age < 0 then
    return answer('clock')
  end
end

for i = 1, #keys, 8 do
  if string.sub(keys, i, i + 7) == ARGV[4] then
    return answer('late')
  end
end

return answer('reuse')
