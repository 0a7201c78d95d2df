-- Makes the live version's parent live again.
-- KEYS: registry, policies, policy-states, audit    ARGV: expected generation, actor, reason
-- Returns {outcome, version}: 'done', 'conflict' (somebody changed the registry), 'bottom' (version 0 has no parent).
local generation = redis.call('HGET', KEYS[1], 'generation')
local live = redis.call('HGET', KEYS[1], 'live')
if generation ~= ARGV[1] then
  -- The Redis client's silent retry of this very rollback is not a conflict: repeated by hand it would go back twice.
  local event = {}
  local fields = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)[1][2]
  for index = 1, #fields, 2 do event[fields[index]] = fields[index + 1] end
  local is_ours = event.action == 'rollback' and event.actor == ARGV[2] and event.reason == ARGV[3]
  if is_ours and tonumber(event.generation) == ARGV[1] + 1 then return {'done', tonumber(live)} end
  return {'conflict', tonumber(live)}
end
local parent = cjson.decode(redis.call('HGET', KEYS[2], live)).parent
if parent == cjson.null or parent == nil then return {'bottom', tonumber(live)} end

local now = redis.call('TIME')
redis.call('HSET', KEYS[3], live, 'rolled_back')
local previous = redis.call('HGET', KEYS[1], 'previous')
if previous and tonumber(previous) ~= parent then redis.call('HSET', KEYS[3], previous, 'retired') end
redis.call('HSET', KEYS[3], parent, 'live')
redis.call('HSET', KEYS[1], 'live', parent)
local grandparent = cjson.decode(redis.call('HGET', KEYS[2], parent)).parent
if grandparent == cjson.null or grandparent == nil then
  redis.call('HDEL', KEYS[1], 'previous')
else
  redis.call('HSET', KEYS[1], 'previous', grandparent)
  redis.call('HSET', KEYS[3], grandparent, 'previous')
end
redis.call('XADD', KEYS[4], '*', 'generation', redis.call('HINCRBY', KEYS[1], 'generation', 1), 'action', 'rollback',
  'version', parent, 'actor', ARGV[2], 'reason', ARGV[3], 'at', now[1] .. '.' .. string.format('%06d', now[2]))
return {'done', parent}
