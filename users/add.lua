-- Creates an account unless one of that name exists.
-- KEYS[1] account hash, KEYS[2] name string of the subject
-- ARGV[1] username, [2] subject, [3] password hash, [4] roles joined by spaces
-- Returns KEYS[1], and 'added', created_at, or 'exists'.
--
-- The subject is random, so an account that carries it was made by this very
-- call: the script ran before and its reply was lost.
local owner = redis.call('HGET', KEYS[1], 'sub')
if owner == ARGV[2] then
  return {KEYS[1], 'added', redis.call('HGET', KEYS[1], 'created_at')}
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  return {KEYS[1], 'exists'}
end
local now = redis.call('TIME')[1]
-- The name goes first: if the script is cut here, it belongs to a subject that
-- nobody has. The other way round, an account would stay without its name.
redis.call('SET', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[1], 'sub', ARGV[2], 'password', ARGV[3], 'roles', ARGV[4],
  'disabled', '0', 'epoch', '1', 'created_at', now)
return {KEYS[1], 'added', now}
