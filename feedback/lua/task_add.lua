-- One task, if its target can still be judged blind. The same again is no second task.
-- KEYS[3..]: all tasks, the operators' own ids, target, the completions of a comparison
-- ARGV[5..]: id, record (JSON), priority, the operator's own id or '', digest of what the operator sent
-- Returns {'new' or 'replay', id}, or {'conflict'}, {'unknown'}, {'revealed'}, {'taken'} (an open task asks the same).
local ALL, NAMES, TARGET = KEYS[3], KEYS[4], KEYS[5]
local id, json, priority, name, digest = ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8], ARGV[9]
local known = name ~= '' and redis.call('HGET', NAMES, name)
if known and redis.call('HGET', ARGV[1] .. known, 'digest') ~= digest then return {'conflict'} end
if known then return {known == id and 'new' or 'replay', known} end
if redis.call('EXISTS', ARGV[1] .. id) == 1 then return {'new', id} end -- redis-py's silent retry

local record = cjson.decode(json)
if redis.call('HEXISTS', TARGET, 'record') == 0 then return {'unknown'} end
if record.target.type == 'comparison' then
  if redis.call('HEXISTS', TARGET, 'revealed') == 1 then return {'revealed'} end
else
  local side = cjson.decode(redis.call('HGET', TARGET, 'outline') or redis.call('HGET', TARGET, 'record'))
  if type(side.comparison_id) == 'string'
    and redis.call('HEXISTS', ARGV[3] .. side.comparison_id, 'revealed') == 0 then return {'unknown'} end
end
local kinds = {compare = 'preference', rank = 'ranking', rate = 'rating', correct = 'correction'}
local held = 't:' .. record.target.choice_index .. ':' .. kinds[record.kind]
if redis.call('HEXISTS', TARGET, held) == 1 then return {'taken'} end

-- Higher priority first, then older first: both fit into a double.
local last = redis.call('ZREVRANGE', ALL, 0, 0, 'WITHSCORES')
local number = (tonumber(last[2]) or 0) + 1
local order = string.format('%.0f', number - priority * 2 ^ 40)
redis.call('HSET', ARGV[1] .. id, 'record', json, 'state', 'open', 'order', order, 'digest', digest, 'answered', 0,
  'leased', 0)
redis.call('HSET', TARGET, held, id)
if name ~= '' then redis.call('HSET', NAMES, name, id) end
redis.call('ZADD', ALL, number, id)
redis.call('ZADD', READY, order, id)
redis.call('ZADD', DUE, record.deadline, id)
for index = 5, #KEYS do
  local left = redis.call('TTL', KEYS[index])
  local wanted = math.ceil(record.deadline - NOW)
  if left >= 0 and left < wanted then redis.call('EXPIRE', KEYS[index], wanted) end
end
return {'new', id}
