-- Takes one from each budget, or from none of them.
--
-- KEYS     budgets, each the time (ms) at which it will be full again
-- ARGV     for each: the time in which one comes back (ms), how many it holds
--
-- Reply    KEYS[1], then for each: how long to wait for one (ms, 0: now), how
--          many are left, how long until it is full (ms)
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local full, refused = {}, false
for i, key in ipairs(KEYS) do
  local interval, holds = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local at = math.max(tonumber(redis.call('GET', key) or 0), now)
  -- The clock went back, and nobody must wait until it is where it was. Steps
  -- smaller than an interval only make the wait longer: they come often, and must
  -- not fill a budget that somebody has used up.
  if at > now + interval * (holds + 1) then
    at = now
  end
  full[i] = at
  refused = refused or at + interval > now + interval * holds
end

local reply = {KEYS[1]}
for i, key in ipairs(KEYS) do
  local interval, holds = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local wait = math.max(0, full[i] + interval - now - interval * holds)
  if not refused then
    full[i] = full[i] + interval
    redis.call('SET', key, full[i], 'PX', full[i] - now)
  end
  reply[#reply + 1] = wait
  reply[#reply + 1] = math.floor((now + interval * holds - full[i]) / interval)
  reply[#reply + 1] = full[i] - now
end
return reply
