-- Makes or revokes an API key, and tells the audit, in one step. After sha256.lua and audit.lua.
-- KEYS: api-keys, api-keys-revoked, api-keys-change, audit, audit-head, registry, call
-- ARGV: 'create' or 'revoke', key id, ApiKey JSON (to create), actor, reason
-- Returns 'done', 'again' (it was revoked before) or 'unknown'. A silent retry of the Redis client is told what the
-- call itself was told.
local action, key = ARGV[1], ARGV[2]
local told = redis.call('GET', KEYS[7])
if told then return told end
if action == 'revoke' then
  if redis.call('HEXISTS', KEYS[1], key) == 0 then return 'unknown' end
  if redis.call('HEXISTS', KEYS[2], key) == 1 then return 'again' end
end
redis.call('SET', KEYS[7], 'done', 'EX', 600)
if action == 'create' then redis.call('HSET', KEYS[1], key, ARGV[3]) else redis.call('HSET', KEYS[2], key, NOW) end
redis.call('INCR', KEYS[3])
act(KEYS[6], KEYS[4], KEYS[5], 'key.' .. action, ARGV[4], ARGV[5], key)
return 'done'
