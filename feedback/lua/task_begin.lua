-- Keeps a place for an answer that is about to be stored. Whose lease ran out may still answer while there is room.
-- ARGV[5..]: task, rater, how long the place is kept at least (s)
-- Returns {'kept' or 'answered', record}, or {'unknown'}, {'skipped'}, {'closed'}, {'full'}.
local id, rater, least = ARGV[5], ARGV[6], tonumber(ARGV[7])
local task = load(id)
if not task then return {'unknown'} end
local done = redis.call('HGET', doings(rater), id)
if done == 'answered' then return {'answered', task.json} end
if done == 'skipped' then return {'skipped'} end
local ends = redis.call('ZSCORE', DUE, id .. ' ' .. rater)
if ends and task.open then
  if tonumber(ends) < NOW + least then lease(task, rater, NOW + least) end
  return {'kept', task.json}
end
if not task.open or task.deadline <= NOW then return {'closed'} end
if not has_room(task) or vote_of(task, rater) then return {'full'} end
lease(task, rater, NOW + least)
return {'kept', task.json}
