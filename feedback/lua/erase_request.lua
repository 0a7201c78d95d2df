-- Asks for an erasure. One that is under way is not asked for twice; one that is done begins anew.
-- KEYS: job, jobs that are not done    ARGV: job id, Erasure (JSON), rater
-- Returns the Erasure as it is now.
local held = redis.call('HGET', KEYS[1], 'record')
if held and redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return held end
redis.call('HSET', KEYS[1], 'record', ARGV[2], 'rater', ARGV[3])
redis.call('SADD', KEYS[2], ARGV[1])
return ARGV[2]
