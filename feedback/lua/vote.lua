-- One vote, decided and stored in one step. The same call again (a client's retry, or redis-py's silent one) gives the
-- same answer and stores nothing.
-- KEYS: target (completion or comparison), idempotency, feedback stream, feedback counts
-- ARGV: ballot (JSON: id, target, kind, value, rater, rater_kind, comment), digest of the ballot, feedback window (s),
--       life of the idempotency key (s), prefix of completion keys, prefix of comparison keys
-- Returns {outcome, event JSON, 1 if it stands}; outcome 'new' or 'replay'. Refusals are {outcome} alone:
--   'key_conflict', 'unknown', 'no_choice', 'unfinished', 'unvotable', 'revealed'
-- The first write must be one that Redis refuses when memory is full (XADD, HSET), so that nothing is left half done.
local ballot = cjson.decode(ARGV[1])

local function field_of(event)
  local rater = event.rater
  if rater == nil or rater == cjson.null then rater = '-' end
  local people = not event.rater_kind or event.rater_kind == 'human'
  return (people and 'v:' or event.rater_kind .. ':') .. rater .. ':' .. string.format('%d', event.target.choice_index) .. ':' .. event.kind
end

local function answer(outcome, json)
  local event = cjson.decode(json)
  local standing = redis.call('HGET', KEYS[1], field_of(event))
  return {outcome, json, (not standing or cjson.decode(standing).id == event.id) and 1 or 0}
end

local used = redis.call('HMGET', KEYS[2], 'digest', 'event')
if used[1] then
  if used[1] ~= ARGV[2] then return {'key_conflict'} end
  return answer(cjson.decode(used[2]).id == ballot.id and 'new' or 'replay', used[2])
end

-- Which completions are voted on, and may they be?
local target = redis.call('HMGET', KEYS[1], 'record', 'revealed')
if not target[1] then return {'unknown'} end
local record = cjson.decode(target[1])
local is_comparison = ballot.target.type == 'comparison'
local ids = is_comparison and {record.a, record.b} or {ballot.target.id}
local versions, train, extended = {}, true, {KEYS[1]}
for index, id in ipairs(ids) do
  local key = ARGV[5] .. id
  local fields = redis.call('HMGET', key, 'record', 'state')
  if not fields[1] then return {'unknown'} end
  local side = cjson.decode(fields[1])
  if not is_comparison and type(side.comparison_id) == 'string'
    and redis.call('HEXISTS', ARGV[6] .. side.comparison_id, 'revealed') == 0 then return {'unknown'} end
  if fields[2] == 'streaming' then return {'unfinished'} end
  if fields[2] ~= 'complete' then return {'unvotable'} end
  if ballot.target.choice_index >= math.max(1, #side.choices, tonumber(side.sampling.n) or 1) then return {'no_choice'} end
  versions[index], train = side.policy_version, train and side.train
  extended[#extended + 1] = key
end

-- The same vote again is the first one; another one supersedes it, but not once the sides have been revealed.
if ballot.rater == cjson.null then ballot.rater = record.rater end
local field = field_of(ballot)
local standing = redis.call('HGET', KEYS[1], field)
local event = standing
if not standing or cjson.decode(standing).value ~= ballot.value then
  if is_comparison and target[2] then return {'revealed'} end
  local now = redis.call('TIME')
  ballot.supersedes = standing and cjson.decode(standing).id or cjson.null
  ballot.policy_versions, ballot.completion_ids, ballot.train = versions, ids, train
  -- spliced, because cjson would round the microseconds off
  event = string.sub(cjson.encode(ballot), 1, -2) .. ',"created_at":' .. now[1] .. string.format('.%06d', now[2]) .. '}'
  redis.call('XADD', KEYS[3], '*', 'event', event)
  redis.call('HINCRBY', KEYS[4], ballot.rater_kind == 'human' and ballot.kind or 'ai_' .. ballot.kind, 1)
  redis.call('HSET', KEYS[1], field, event)
  if is_comparison then redis.call('HSET', KEYS[1], 'revealed', ballot.id) end
end
redis.call('HSET', KEYS[2], 'digest', ARGV[2], 'event', event)
redis.call('EXPIRE', KEYS[2], ARGV[4])
for _, key in ipairs(extended) do redis.call('EXPIRE', key, ARGV[3]) end
return answer(event == standing and 'replay' or 'new', event)
