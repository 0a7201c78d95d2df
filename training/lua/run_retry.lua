-- Queues an ended run again, with fresh attempts, against the policy that is live now, and tells the audit.
-- After sha256.lua and audit.lua.
-- KEYS: run, registry, audit, audit-head, call    ARGV: run id, actor, reason
-- Returns the state that it had, or false if there is no such run. A silent retry of the Redis client is told what the
-- call itself was told.
local told = redis.call('GET', KEYS[5])
if told then return told end
local run = redis.call('HMGET', KEYS[1], 'state', 'attempt')
if run[1] ~= 'failed' and run[1] ~= 'cancelled' and run[1] ~= 'skipped' then return run[1] end
redis.call('SET', KEYS[5], run[1], 'EX', 600)
local live = redis.call('HGET', KEYS[2], 'live')
redis.call('HSET', KEYS[1], 'state', 'queued', 'reason', '', 'stage', '', 'progress', 0, 'forgiven', run[2],
  'updated', NOW)
if live then redis.call('HSET', KEYS[1], 'parent', live) end
act(KEYS[2], KEYS[3], KEYS[4], 'run.retry', ARGV[2], ARGV[3], ARGV[1])
return run[1]
