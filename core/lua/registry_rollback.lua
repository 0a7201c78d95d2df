-- Makes the live version's parent live again, and stops the open release.
-- KEYS: see registry_common.lua    ARGV: expected generation, actor, reason
-- Returns {outcome, version}: 'done', 'conflict' (somebody changed the registry), 'bottom' (version 0 has no parent).
if answered() then return answer(answered()) end
local live = redis.call('HGET', REGISTRY, 'live')
if redis.call('HGET', REGISTRY, 'generation') ~= ARGV[1] then return {'conflict', tonumber(live)} end
local parent = cjson.decode(redis.call('HGET', POLICIES, live)).parent
if parent == cjson.null or parent == nil then return {'bottom', tonumber(live)} end

stop_release(ARGV[2], 'version ' .. live .. ' is rolled back: ' .. ARGV[3])
redis.call('HSET', STATES, live, 'rolled_back')
local previous = redis.call('HGET', REGISTRY, 'previous')
if previous and tonumber(previous) ~= parent then redis.call('HSET', STATES, previous, 'retired') end
redis.call('HSET', STATES, parent, 'live')
redis.call('HSET', REGISTRY, 'live', parent)
local grandparent = cjson.decode(redis.call('HGET', POLICIES, parent)).parent
if grandparent == cjson.null or grandparent == nil then
  redis.call('HDEL', REGISTRY, 'previous')
else
  redis.call('HSET', REGISTRY, 'previous', grandparent)
  redis.call('HSET', STATES, grandparent, 'previous')
end
changed('rollback', parent, ARGV[2], ARGV[3])
return answer(parent)
