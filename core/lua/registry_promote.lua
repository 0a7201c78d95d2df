-- Makes a version live because a person says so, and stops the open release, whosever it is.
-- KEYS: see registry_common.lua    ARGV: expected generation, version, actor, reason
-- Returns {outcome, version}: 'done', 'conflict' (somebody changed the registry), 'unknown', 'live' (it is already).
if answered() then return answer(answered()) end
local live = redis.call('HGET', REGISTRY, 'live')
if redis.call('HGET', REGISTRY, 'generation') ~= ARGV[1] then return {'conflict', tonumber(live)} end
if redis.call('HEXISTS', POLICIES, ARGV[2]) == 0 then return {'unknown', tonumber(ARGV[2])} end
if live == ARGV[2] then return {'live', tonumber(live)} end
stop_release(ARGV[3], 'version ' .. ARGV[2] .. ' is promoted by hand: ' .. ARGV[4])
make_live(ARGV[2])
changed('promote', ARGV[2], ARGV[3], ARGV[4])
return answer(ARGV[2])
