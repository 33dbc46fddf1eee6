-- KEYS  beat
-- ARGV  the sign of life, how long it stays (ms)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {KEYS[1]}
