-- The end of a run, in one step: register the candidate, open its release if its gate passed, commit the run. While
-- another release is open, the candidate waits as one.
-- KEYS: see registry_common.lua; 7: run
-- ARGV: PolicyVersion JSON without version and state, verdict (pass | fail | inconclusive), run id, attempt,
--       expected live version, gate summary, first stage, its share, alpha
-- Returns {outcome, version}: 'done', 'stale' (another attempt holds the run), 'conflict' (live moved on since the gate).
local run = redis.call('HMGET', KEYS[7], 'state', 'attempt', 'version')
if run[1] == 'done' and run[3] then return {'done', tonumber(run[3])} end
if run[1] ~= 'running' or run[2] ~= ARGV[4] then return {'stale', -1} end
local live, passed = redis.call('HGET', REGISTRY, 'live'), ARGV[2] == 'pass'
if passed and live ~= ARGV[5] then return {'conflict', tonumber(live)} end

local version, actor = tonumber(redis.call('HGET', REGISTRY, 'next_version')), 'run:' .. ARGV[3]
-- cjson would turn an empty list into an object, so the record is spliced, not decoded.
redis.call('HSET', POLICIES, version, '{"version":' .. version .. ',' .. string.sub(ARGV[1], 2))
redis.call('HSET', REGISTRY, 'next_version', version + 1)
redis.call('HSET', STATES, version, passed and 'candidate' or 'rejected')
changed('register', version, actor, ARGV[6])
if passed and not open_release() then begin_release(version, ARGV[7], ARGV[8], ARGV[9], actor, 'gate passed') end
redis.call('HSET', KEYS[7], 'state', 'done', 'version', version, 'verdict', ARGV[2], 'reason', ARGV[6],
  'stage', 'done', 'progress', 1, 'updated', NOW)
return {'done', version}
