-- Cancels a run that has not ended, and tells the audit; its worker learns of it from the next heartbeat.
-- After sha256.lua and audit.lua.
-- KEYS: run, registry, audit, audit-head, call    ARGV: run id, actor, reason
-- Returns the state that it had, or false if there is no such run. A silent retry of the Redis client is told what the
-- call itself was told.
local told = redis.call('GET', KEYS[5])
if told then return told end
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'queued' and state ~= 'running' then return state end
redis.call('SET', KEYS[5], state, 'EX', 600)
redis.call('HSET', KEYS[1], 'state', 'cancelled', 'reason', 'cancelled by ' .. ARGV[2] .. ': ' .. ARGV[3],
  'lease_until', 0, 'updated', NOW)
act(KEYS[2], KEYS[3], KEYS[4], 'run.cancel', ARGV[2], ARGV[3], ARGV[1])
return state
