-- Gives one back to each budget.
--
-- KEYS     budgets, see reserve.lua
-- ARGV     for each: the time in which one comes back (ms), how many it holds
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

for i, key in ipairs(KEYS) do
  local full = tonumber(redis.call('GET', key) or 0) - ARGV[2 * i - 1]
  if full > now then
    redis.call('SET', key, full, 'PX', full - now)
  else
    redis.call('DEL', key)
  end
end
return {KEYS[1]}
