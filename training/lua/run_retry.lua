-- Queues an ended run again, with fresh attempts, against the policy that is live now.
-- KEYS: run, registry    Returns the state that it had, or false if there is no such run.
local run = redis.call('HMGET', KEYS[1], 'state', 'attempt')
if run[1] ~= 'failed' and run[1] ~= 'cancelled' and run[1] ~= 'skipped' then return run[1] end
local live = redis.call('HGET', KEYS[2], 'live')
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], 'state', 'queued', 'reason', '', 'stage', '', 'progress', 0, 'forgiven', run[2],
  'updated', now[1] .. string.format('.%06d', now[2]))
if live then redis.call('HSET', KEYS[1], 'parent', live) end
return run[1]
