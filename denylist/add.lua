-- KEYS  entry, feed
-- ARGV  kind, id, exp (Unix seconds)
-- Reply 1 if something was denied, 0 if the last token had ended already
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if deny(KEYS[1], KEYS[2], ARGV[1], ARGV[2], tonumber(ARGV[3]), now) then
  return 1
end
return 0
