-- Reads a session.
--
-- KEYS[1]  the session
--
-- Reply    KEYS[1], the session's fields
return {KEYS[1], redis.call('HGETALL', KEYS[1])}
