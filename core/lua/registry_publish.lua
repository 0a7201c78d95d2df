-- The end of a run, in one step: register the candidate, promote it if its gate passed, commit the run.
-- KEYS: registry, policies, policy-states, audit, run
-- ARGV: PolicyVersion JSON without version and state, verdict (pass | fail | inconclusive), run id, attempt,
--       expected live version, gate summary
-- Returns {outcome, version}: 'done', 'stale' (another attempt holds the run), or 'conflict' (live moved on since the gate).
local run = redis.call('HMGET', KEYS[5], 'state', 'attempt', 'version')
if run[1] == 'done' and run[3] then return {'done', tonumber(run[3])} end
if run[1] ~= 'running' or run[2] ~= ARGV[4] then return {'stale', -1} end
local live = redis.call('HGET', KEYS[1], 'live')
if ARGV[2] == 'pass' and live ~= ARGV[5] then return {'conflict', tonumber(live)} end

local now = redis.call('TIME')
local at = now[1] .. '.' .. string.format('%06d', now[2])
local version = tonumber(redis.call('HGET', KEYS[1], 'next_version'))
local function audit(action, reason)
  local generation = redis.call('HINCRBY', KEYS[1], 'generation', 1)
  redis.call('XADD', KEYS[4], '*', 'generation', generation, 'action', action, 'version', version,
    'actor', 'run:' .. ARGV[3], 'reason', reason, 'at', at)
end

-- cjson would turn an empty list into an object, so the record is spliced, not decoded.
redis.call('HSET', KEYS[2], version, '{"version":' .. version .. ',' .. string.sub(ARGV[1], 2))
redis.call('HSET', KEYS[1], 'next_version', version + 1)
redis.call('HSET', KEYS[3], version, ARGV[2] == 'pass' and 'candidate' or 'rejected')
audit('register', ARGV[6])
if ARGV[2] == 'pass' then
  local previous = redis.call('HGET', KEYS[1], 'previous')
  if previous then redis.call('HSET', KEYS[3], previous, 'retired') end
  redis.call('HSET', KEYS[3], live, 'previous', version, 'live')
  redis.call('HSET', KEYS[1], 'previous', live, 'live', version)
  audit('promote', 'gate passed')
end
redis.call('HSET', KEYS[5], 'state', 'done', 'version', version, 'verdict', ARGV[2], 'reason', ARGV[6],
  'stage', 'done', 'progress', 1, 'updated', at)
return {'done', version}
