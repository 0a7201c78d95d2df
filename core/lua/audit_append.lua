-- Tells the audit of an act that no script here does. After sha256.lua and audit.lua.
-- KEYS: registry, audit, audit-head, call    ARGV: action, actor, reason
-- A silent retry of the Redis client appends nothing more.
if redis.call('SET', KEYS[4], 1, 'NX', 'EX', 600) then act(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3], '') end
