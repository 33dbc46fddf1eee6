-- KEYS  beat
-- ARGV  the sign of life, how long it stays (ms)
return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
