-- KEYS  the mark
-- ARGV  how long it stays (ms)
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return {KEYS[1]}
