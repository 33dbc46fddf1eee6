-- KEYS  entry, feed
-- ARGV  kind, id, exp of the last token to deny (Unix seconds), or "" and how
--       many seconds from now that is
-- Reply KEYS[1], and until when it is denied (Unix seconds), 0 if the last token
--       had ended already
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local exp = tonumber(ARGV[3]) or math.ceil(now / 1000) + ARGV[4]
return {KEYS[1], deny(KEYS[1], KEYS[2], ARGV[1], ARGV[2], exp, now) or 0}
