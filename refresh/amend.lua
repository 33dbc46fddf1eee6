-- Changes fields of a live session.
--
-- KEYS[1]  the session
-- ARGV     fields and values; an empty value removes the field
--
-- Reply    KEYS[1]. Nothing is done if the session is not there or has ended
local rotated, absolute, done = unpack(redis.call('HMGET', KEYS[1], 'r', 'a', 'end'))
if not rotated or done then
  return {KEYS[1]}
end
for i = 1, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[i])
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
local idle = redis.call('HGET', KEYS[1], 'i')
redis.call('PEXPIREAT', KEYS[1], math.min(rotated + idle * 1000, absolute * 1000))
return {KEYS[1]}
