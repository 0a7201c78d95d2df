-- Ends an attempt that still holds its run: failed, skipped, or queued again (an orderly stop, which is forgiven).
-- KEYS: run    ARGV: attempt, state, reason    Returns 1 if that is the run's state now, 0 if the attempt was fenced off.
local run = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'reason')
if run[2] ~= ARGV[1] then return 0 end
if run[1] == ARGV[2] and run[3] == ARGV[3] then return 1 end -- the Redis client's silent retry
if run[1] ~= 'running' then return 0 end
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'reason', ARGV[3], 'lease_until', 0,
  'updated', now[1] .. string.format('.%06d', now[2]))
if ARGV[2] == 'queued' then redis.call('HINCRBY', KEYS[1], 'forgiven', 1) end
return 1
