-- Leases one task to a rater: the one that they hold already, else the first in turn that they have not dealt with.
-- ARGV[5..]: rater, length of a lease (s), where in the queue to begin ('-inf' or '(' and an order), how many to see
-- Returns {'leased', record, end of the lease}, {'more', where to go on}, or {'none'}.
local rater, length, start, most = ARGV[5], tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8])
local mine = doings(rater)
local held = redis.call('HGET', mine, '@lease')
local task = held and load(held)
if task and not settle(task, rater) then
  if task.open then return {'leased', task.json, redis.call('ZSCORE', DUE, held .. ' ' .. rater)} end
  release(task, rater)
end

local found = redis.call('ZRANGEBYSCORE', READY, start, '+inf', 'WITHSCORES', 'LIMIT', 0, most)
local ids = {}
for index = 1, #found, 2 do ids[#ids + 1] = found[index] end
local known = #ids > 0 and redis.call('HMGET', mine, unpack(ids)) or {}
for index, id in ipairs(ids) do
  local candidate = not known[index] and load(id)
  if candidate then
    if candidate.deadline <= NOW or redis.call('EXISTS', candidate.target) == 0 then
      close(candidate, 'expired')
    elseif vote_of(candidate, rater) then
      redis.call('HSET', mine, id, 'voted') -- they said it already, but not as this task
    else
      local until_ = string.format('%.6f', math.min(NOW + length, candidate.deadline))
      lease(candidate, rater, until_)
      redis.call('HSET', mine, '@lease', id)
      return {'leased', candidate.json, until_}
    end
  end
end
if #ids == most then return {'more', found[#found]} end
return {'none'}
