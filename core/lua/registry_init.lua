-- Registers version 0 and makes it live, once.
-- KEYS: registry, policies, policy-states, audit    ARGV: PolicyVersion JSON (version 0), actor
-- Returns 1 if it was done now, 0 if a version 0 stands already.
if redis.call('HEXISTS', KEYS[1], 'next_version') == 1 then return 0 end
local now = redis.call('TIME')
local at = now[1] .. '.' .. string.format('%06d', now[2])
redis.call('HSET', KEYS[2], '0', ARGV[1])
redis.call('HSET', KEYS[3], '0', 'live')
redis.call('HSET', KEYS[1], 'generation', 1, 'live', 0, 'next_version', 1)
redis.call('XADD', KEYS[4], '*', 'generation', 1, 'action', 'register', 'version', 0, 'actor', ARGV[2],
  'reason', 'the frozen base', 'at', at)
return 1
