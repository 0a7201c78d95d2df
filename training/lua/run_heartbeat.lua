-- Renews a lease and notes the progress, if this attempt still holds the run.
-- KEYS: run    ARGV: attempt, stage, progress, lease (s)    Returns 1, or 0: cancelled, or another attempt took over.
local run = redis.call('HMGET', KEYS[1], 'state', 'attempt')
if run[1] ~= 'running' or run[2] ~= ARGV[1] then return 0 end
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], 'stage', ARGV[2], 'progress', ARGV[3],
  'lease_until', string.format('%.6f', now[1] + now[2] / 1e6 + ARGV[4]),
  'updated', now[1] .. string.format('.%06d', now[2]))
return 1
