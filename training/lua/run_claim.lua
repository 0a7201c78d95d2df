-- Gives a run to one worker, on Redis's clock. The attempt number is the fencing token: it only grows.
-- KEYS: run    ARGV: owner (unique to this claim), lease (s), most attempts
-- Returns the run's fields, or an empty list: unknown, ended, held by somebody else, or out of attempts (then failed).
local run = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'forgiven', 'owner', 'lease_until')
if run[1] ~= 'queued' and run[1] ~= 'running' then return {} end
local now = redis.call('TIME')
local seconds = now[1] + now[2] / 1e6
local at = now[1] .. string.format('.%06d', now[2])
if run[1] == 'running' and tonumber(run[5]) > seconds then
  if run[4] == ARGV[1] then return redis.call('HGETALL', KEYS[1]) end -- the Redis client's silent retry of this claim
  return {}
end
if run[2] - run[3] >= tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[1], 'state', 'failed', 'updated', at, 'lease_until', 0, 'reason',
    'max_attempts: ' .. ARGV[3] .. ' workers in a row took this run and vanished')
  return {}
end
redis.call('HSET', KEYS[1], 'state', 'running', 'attempt', run[2] + 1, 'owner', ARGV[1], 'reason', '',
  'lease_until', string.format('%.6f', seconds + ARGV[2]), 'updated', at)
return redis.call('HGETALL', KEYS[1])
