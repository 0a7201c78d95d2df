-- A candidate that waits gets its release.
-- KEYS: see registry_common.lua    ARGV: version, the version that must be live ('' for any), first stage, its share,
--       alpha, actor, reason
-- Returns {outcome, version}: 'done', 'unknown', 'over' (it is no candidate any more), 'busy' (this version's release is
-- open), 'conflict' (this version is live).
if answered() then return answer(answered()) end
local state, live, open = redis.call('HGET', STATES, ARGV[1]), redis.call('HGET', REGISTRY, 'live'), open_release()
if not state then return {'unknown', tonumber(ARGV[1])} end
if state ~= 'candidate' then return {'over', tonumber(ARGV[1])} end
if open then return {'busy', open.version} end
if ARGV[2] ~= '' and ARGV[2] ~= live then return {'conflict', tonumber(live)} end
begin_release(ARGV[1], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7])
return answer(ARGV[1])
