-- Reads the ids of a user's sessions, the oldest first.
--
-- KEYS[1]  the index
--
-- Reply    KEYS[1], the ids
return {KEYS[1], redis.call('ZRANGE', KEYS[1], 0, -1)}
