-- Changes one field of an account and moves its epoch on.
-- KEYS[1] account hash
-- ARGV[1] field, [2] value, [3] the epoch at which it is to be changed
-- Returns KEYS[1], and 'changed', sub, roles, disabled, created_at; or 'stale' if
-- the account has changed since that epoch; or 'unknown'.
--
-- One HSET writes both: a new password beside the old epoch would let a login
-- with the old password through. The epoch that is asked for keeps a run that
-- the network delivers late from undoing what was done after it: a disabled
-- account must not come back because it was once enabled.
local value, epoch = unpack(redis.call('HMGET', KEYS[1], ARGV[1], 'epoch'))
if not epoch then
  return {KEYS[1], 'unknown'}
end
if tonumber(epoch) == tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], 'epoch', string.format('%.0f', epoch + 1))
elseif tonumber(epoch) ~= tonumber(ARGV[3]) + 1 or value ~= ARGV[2] then
  return {KEYS[1], 'stale'}
end
local a = redis.call('HMGET', KEYS[1], 'sub', 'roles', 'disabled', 'created_at')
return {KEYS[1], 'changed', a[1], a[2], a[3], a[4]}
