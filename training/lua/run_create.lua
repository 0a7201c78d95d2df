-- Queues a run unless it is there already or another one is under way: two schedulers at once make one run.
-- KEYS: run, runs, scheduler    ARGV: run id, prefix of run keys, votes counted, then the run's fields: name, value, ...
-- Returns 'created', 'exists' or 'busy'.
if redis.call('EXISTS', KEYS[1]) == 1 then return 'exists' end
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local state = redis.call('HGET', ARGV[2] .. id, 'state')
  if state == 'queued' or state == 'running' then return 'busy' end
end
local now = redis.call('TIME')
local at = now[1] .. string.format('.%06d', now[2])
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('HSET', KEYS[1], 'created', at, 'updated', at)
redis.call('ZADD', KEYS[2], at, ARGV[1])
redis.call('HSET', KEYS[3], 'votes_at_cut', ARGV[3])
return 'created'
