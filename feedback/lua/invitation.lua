-- Invites a rater to the page, in place of an earlier invitation, or ends it; and tells the audit. After sha256.lua and
-- audit.lua.
-- KEYS: invitations, registry, audit, audit-head, call
-- ARGV: 'invite' or 'dismiss', rater, Invitation JSON (to invite), actor, reason, the rater as the audit names them
-- Returns 1; 0 if there is nothing to end. A silent retry of the Redis client is told what the call itself was told.
local action, rater = ARGV[1], ARGV[2]
if redis.call('EXISTS', KEYS[5]) == 1 then return 1 end
if action == 'dismiss' and redis.call('HEXISTS', KEYS[1], rater) == 0 then return 0 end
redis.call('SET', KEYS[5], 1, 'EX', 600)
if action == 'invite' then redis.call('HSET', KEYS[1], rater, ARGV[3]) else redis.call('HDEL', KEYS[1], rater) end
act(KEYS[2], KEYS[3], KEYS[4], 'rater.' .. action, ARGV[4], ARGV[5], ARGV[6])
return 1
