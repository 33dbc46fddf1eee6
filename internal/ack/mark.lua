-- KEYS  the mark
-- ARGV  how long it stays (ms)
return redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
