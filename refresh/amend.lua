-- Changes fields of a live session.
--
-- KEYS[1]  the session
-- ARGV     fields and values; an empty value removes the field
--
-- Reply    1, or 0 if the session is not there or has ended
local s = redis.call('HMGET', KEYS[1], 'r', 'a', 'x', 'end')
local rotated, absolute, highest = tonumber(s[1]), tonumber(s[2]), tonumber(s[3])
if not rotated or s[4] then
  return 0
end
for i = 1, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[i])
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
-- With a longer access lifetime a repeat of the last grant would outlive what
-- ending the session denies.
local life = tonumber(redis.call('HGET', KEYS[1], 'l'))
redis.call('HSET', KEYS[1], 'x', math.max(highest, math.min(math.floor(rotated / 1000) + life, absolute)))
local idle = tonumber(redis.call('HGET', KEYS[1], 'i'))
redis.call('PEXPIREAT', KEYS[1], math.min(rotated + idle * 1000, absolute * 1000))
return 1
