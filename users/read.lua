-- Reads an account at one moment: password, disabled and epoch must belong
-- together.
-- KEYS[1] account hash
-- Returns KEYS[1], and sub, roles, disabled, created_at, password, epoch.
return {KEYS[1], unpack(redis.call('HMGET', KEYS[1],
  'sub', 'roles', 'disabled', 'created_at', 'password', 'epoch'))}
