-- Changes one field of an account and moves its epoch on.
-- KEYS[1] account hash
-- ARGV[1] field, [2] value
-- Returns {'changed', sub, roles, disabled, created_at} or {'unknown'}.
--
-- One HSET writes both: a new password beside the old epoch would let a login
-- with the old password through. Run twice, the script gives the same account
-- with the epoch one further, which can only refuse a login, never admit one.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {'unknown'}
end
local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '') or 0
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], 'epoch', string.format('%.0f', epoch + 1))
local a = redis.call('HMGET', KEYS[1], 'sub', 'roles', 'disabled', 'created_at')
return {'changed', a[1], a[2], a[3], a[4]}
