-- Reads the ring, and the clock by which it is rotated.
--
-- KEYS[1]  the ring
--
-- Reply    KEYS[1], now (ms), the ring or nothing
local t = redis.call('TIME')
return {KEYS[1], t[1] * 1000 + math.floor(t[2] / 1000), redis.call('GET', KEYS[1])}
