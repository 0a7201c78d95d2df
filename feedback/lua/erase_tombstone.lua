-- Says in the log that somebody was erased, once for each job.
-- KEYS: job, feedback stream    ARGV: RaterEvent (JSON without created_at)
if redis.call('HEXISTS', KEYS[1], 'tombstone') == 1 then return 0 end
local now = redis.call('TIME')
local event = string.sub(ARGV[1], 1, -2) .. ',"created_at":' .. now[1] .. string.format('.%06d', now[2]) .. '}'
redis.call('HSET', KEYS[1], 'tombstone', redis.call('XADD', KEYS[2], '*', 'rater', event))
return 1
