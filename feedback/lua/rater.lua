-- One event about a rater, in the log and in a hash that holds the rater's present state. What holds already is not
-- said twice.
-- KEYS[2]: the rater's hash, KEYS[3]: a key of this call's own, so that redis-py's silent retry finds what it did
-- ARGV[3..]: the event (JSON without created_at), the hash's field that it sets, the word that tells whether it is news,
--            life of this call's key (s)
-- Returns {1 if it is new, event JSON}.
local field, word = ARGV[4], ARGV[5]
local earlier = redis.call('GET', KEYS[3])
if earlier then return {1, entry_at(earlier).rater} end
local held = redis.call('HMGET', KEYS[2], field, field .. '_event')
if held[1] == word then return {0, held[2]} end
local event = stamped(ARGV[3])
local position = redis.call('XADD', KEYS[1], '*', 'rater', event)
redis.call('HSET', KEYS[2], field, word, field .. '_event', event)
redis.call('SET', KEYS[3], position, 'EX', ARGV[6])
return {1, event}
