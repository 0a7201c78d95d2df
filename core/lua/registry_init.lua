-- Registers version 0 and makes it live, once.
-- KEYS: see registry_common.lua    ARGV: PolicyVersion JSON (version 0), actor
-- Returns 1 if it was done now, 0 if a version 0 stands already.
if redis.call('HEXISTS', REGISTRY, 'next_version') == 1 then return 0 end
redis.call('HSET', POLICIES, '0', ARGV[1])
redis.call('HSET', STATES, '0', 'live')
redis.call('HSET', REGISTRY, 'live', 0, 'next_version', 1)
changed('register', 0, ARGV[2], 'the frozen base')
return 1
