-- One vote, decided and stored in one step. The same call again (a client's retry, or redis-py's silent one) gives the
-- same answer and stores nothing.
-- KEYS[2..]: target (completion or comparison), feedback counts, up to two idempotency keys
-- ARGV[3..]: what the client said (JSON: the event's fields as far as they are known), its digest, '1' if it chose the
--            id, a random word for this call, feedback window (s), life of the idempotency keys (s), prefix of
--            completion keys, whose vote it is (a tenant, or '' for the deployment), and of a visitor of the page besides: the
--            rater, whose own the target must be, and the key of the list of their votes
-- Returns {outcome, view}; outcome 'new' or 'replay'. Refusals are {outcome} or {outcome, number of sides}:
--   'key_conflict', 'unknown', 'no_choice', 'unfinished', 'unvotable', 'wrong_kind', 'wrong_sides', 'unchanged',
--   'revealed', 'archived'
-- The first write must be one that Redis refuses when memory is full (XADD, HSET), so that nothing is left half done.
local TARGET, COUNTS, FIRST_KEY = KEYS[2], KEYS[3], 4
local said, digest, own_id, call = cjson.decode(ARGV[3]), ARGV[4], ARGV[5] == '1', ARGV[6]
local window, key_life, completion_prefix, tenant, own = ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11] or ''

local function same(one, other)
  if type(one) ~= 'table' or type(other) ~= 'table' then return one == other end
  for key in pairs(one) do if not same(one[key], other[key]) then return false end end
  for key in pairs(other) do if one[key] == nil then return false end end
  return true
end

-- A repeat leaves out what it does not know any more: only what it says can be news.
local function adds_nothing(standing)
  for _, name in ipairs({'value', 'reasons', 'comment', 'metadata'}) do
    if said[name] ~= nil and not same(said[name], standing[name]) then return false end
  end
  return true
end

-- Was this very request answered before?
for index = FIRST_KEY, #KEYS do
  local used = redis.call('HMGET', KEYS[index], 'digest', 'id', 'call')
  if used[1] then
    if used[1] ~= digest then return {'key_conflict'} end
    local known = newest(used[2])
    if not known then return {'unknown'} end
    if not known.event then return {'archived'} end
    return {used[3] == call and 'new' or 'replay', view(known)}
  end
end
local taken = newest(said.id)
if taken then
  if own_id then return {'key_conflict'} end
  return {'new', view(taken)}
end

-- Which completions are voted on, and may they be? Their outlines say so; the text is read only to be compared.
local is_comparison, choice = said.target.type == 'comparison', said.target.choice_index or 0
local revealed, held, asked_by, ids -- held: by a rater task, which keeps the comparison blind until it is over
if is_comparison then
  local fields = redis.call('HMGET', TARGET, 'record', 'revealed', 't:0:' .. said.kind)
  if not fields[1] then return {'unknown'} end
  local comparison = cjson.decode(fields[1])
  if (comparison.tenant or '') ~= tenant then return {'unknown'} end
  revealed, held, asked_by, ids = fields[2], fields[3], comparison.rater, comparison.completion_ids
else
  ids = {said.target.id}
end
if is_comparison and own ~= '' and asked_by ~= own then return {'unknown'} end
local versions, train, extended = {}, true, {TARGET}
for index, id in ipairs(ids) do
  local key = completion_prefix .. id
  local fields = redis.call('HMGET', key, 'outline', 'state')
  if not fields[2] then return {'unknown'} end
  local side = cjson.decode(fields[1] or redis.call('HGET', key, 'record'))
  if (side.tenant or '') ~= tenant then return {'unknown'} end
  if not is_comparison then
    asked_by = side.rater
    if own ~= '' and asked_by ~= own then return {'unknown'} end
    if type(side.comparison_id) == 'string'
      and redis.call('HEXISTS', ARGV[2] .. side.comparison_id, 'revealed') == 0 then return {'unknown'} end
  end
  if fields[2] == 'streaming' then return {'unfinished'} end
  if fields[2] ~= 'complete' then return {'unvotable'} end
  if choice >= math.max(1, #side.choices, tonumber(side.sampling.n) or 1) then return {'no_choice'} end
  if said.kind == 'correction' and is_text_of(key, choice, said.value) then return {'unchanged'} end
  versions[index], train = side.policy_version, train and side.train
  extended[#extended + 1] = key
end
local decides = said.kind == 'preference' or said.kind == 'ranking'
if decides and (said.kind == 'preference') ~= (#ids == 2) then return {'wrong_kind', #ids} end
if said.kind == 'ranking' then
  local placed = 0
  for _, group in ipairs(said.value) do placed = placed + #group end
  if placed ~= #ids then return {'wrong_sides', #ids} end
end

-- The same vote again is the first one; another one supersedes it, but not once the sides have been revealed.
local rater = said.rater or (type(asked_by) == 'string' and asked_by) or nil
local rater_kind = said.rater_kind or 'human'
local field = table.concat({'v', rater_kind, rater or '', choice, said.kind}, ':')
local before = redis.call('HGET', TARGET, field)
local standing = before and newest(before)
local event = standing and standing.event and cjson.decode(standing.event)
local stands = event and not event.withdrawn
local is_new = not (stands and adds_nothing(event))
if is_new then
  if decides and revealed and not (stands and same(said.value, event.value)) then return {'revealed'} end
  local ours = {policy_versions = versions, completion_ids = ids, train = train, supersedes = before or nil}
  if not said.rater then ours.rater = rater end
  local json = stamped(string.sub(ARGV[3], 1, -2) .. ',' .. string.sub(cjson.encode(ours), 2))
  local position = redis.call('XADD', KEYS[1], '*', 'event', json)
  redis.call('HINCRBY', COUNTS, rater_kind == 'human' and said.kind or 'ai_' .. said.kind, 1)
  redis.call('HSET', bucket(said.id), said.id, position)
  redis.call('HSET', TARGET, field, said.id)
  if standing then redis.call('HSET', bucket(before), before, standing.position .. ',s') end
  if decides then redis.call('HSET', TARGET, held and 'decided' or 'revealed', said.id) end
  if own ~= '' then
    redis.call('ZADD', ARGV[12], string.match(position, '^%d+'), said.id)
    redis.call('ZREMRANGEBYRANK', ARGV[12], 0, -501)
    redis.call('EXPIRE', ARGV[12], 90 * 86400)
  end
  before, standing = said.id, {position = position, event = json, where = position}
end
for index = FIRST_KEY, #KEYS do
  redis.call('HSET', KEYS[index], 'digest', digest, 'id', before, 'call', is_new and call or '')
  redis.call('EXPIRE', KEYS[index], key_life)
end
for _, key in ipairs(extended) do redis.call('EXPIRE', key, window) end
local open = not is_comparison or (decides and not held) or revealed ~= false
return {is_new and 'new' or 'replay', view(standing, open)}
