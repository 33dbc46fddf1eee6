-- Replaces the ring if it is still the one that was read. Delivered again, and
-- however late, it does nothing.
--
-- KEYS[1]  the ring
-- ARGV     the ring as it was read, the new one
--
-- Reply    KEYS[1], 1 if the new one is there now
local there = redis.call('GET', KEYS[1])
if there == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2])
  there = ARGV[2]
end
return {KEYS[1], there == ARGV[2] and 1 or 0}
