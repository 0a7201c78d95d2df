-- Cancels a run that has not ended; its worker learns of it from the next heartbeat.
-- KEYS: run    ARGV: reason    Returns the state that it had, or false if there is no such run.
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'queued' and state ~= 'running' then return state end
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], 'state', 'cancelled', 'reason', ARGV[1], 'lease_until', 0,
  'updated', now[1] .. string.format('.%06d', now[2]))
return state
