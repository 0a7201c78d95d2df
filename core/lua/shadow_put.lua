-- Lays what a candidate would have answered beside the answer that was shown.
-- KEYS: the completion, the set of those that wait, the rater's hash
-- ARGV: completion id, ShadowAnswer JSON, most that wait, life of the set (s)
-- Returns 1, or 0: the completion is gone or not complete, its rater said no to training, or enough wait.
if redis.call('HGET', KEYS[1], 'state') ~= 'complete' then return 0 end
if redis.call('HGET', KEYS[3], 'consent') == 'False' then return 0 end
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 0 and redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], 'shadow', ARGV[2])
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 1
