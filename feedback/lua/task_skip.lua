-- Gives a task back for good: this rater does not get it again. Twice is once.
-- ARGV[5..]: task, rater, reason
-- Returns {'skipped'}, or {'unknown'}, {'answered'}.
local id, rater, reason = ARGV[5], ARGV[6], ARGV[7]
local task = load(id)
if not task then return {'unknown'} end
local mine = doings(rater)
if redis.call('HGET', mine, id) == 'answered' or settle(task, rater) then return {'answered'} end
if redis.call('HSETNX', task.key, 's:' .. rater, reason) == 1 then
  redis.call('HINCRBY', mine, '@skipped', 1)
  release(task, rater)
  redis.call('HSET', mine, id, 'skipped')
end
return {'skipped'}
