-- Reads the name that belongs to a subject.
-- KEYS[1] name string of the subject
-- Returns KEYS[1], and the name or nothing.
return {KEYS[1], redis.call('GET', KEYS[1])}
