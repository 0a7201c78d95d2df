-- Sets a rater aside, or takes them back: an event in the log, with the rater's hash, the set of those who are set
-- aside, and the audit. Who is so already stays so, without another event. After sha256.lua, audit.lua and common.lua.
-- KEYS[2]: the rater's hash, KEYS[3]: the set of who is in quarantine, KEYS[4]: a key of this call's own, so that
--          redis-py's silent retry finds what it did; KEYS[5..7]: registry, audit, audit-head
-- ARGV[3..]: rater, 'quarantine' or 'restore', the event (JSON without created_at), life of this call's key (s); for the
--            audit the reason, who acts and the rater, as it names them; and from who judges by what they saw earlier:
--            where the newest such event lay then ('' if there was none)
-- Returns {1 if it is new, 1 if they are in quarantine now, newest such event JSON or ''}.
-- The first write must be one that Redis refuses when memory is full.
local rater, action = ARGV[3], ARGV[4]

local function answer(new)
  return {new, redis.call('SISMEMBER', KEYS[3], rater), redis.call('HGET', KEYS[2], 'review_event') or ''}
end

if redis.call('EXISTS', KEYS[4]) == 1 then return answer(1) end
local aside = redis.call('SISMEMBER', KEYS[3], rater) == 1
if aside == (action == 'quarantine') then return answer(0) end
if ARGV[10] and ARGV[10] ~= (redis.call('HGET', KEYS[2], 'review_at') or '') then return answer(0) end
local event = stamped(ARGV[5])
local position = redis.call('XADD', KEYS[1], '*', 'rater', event)
redis.call('HSET', KEYS[2], 'review_event', event, 'review_at', position, 'review:' .. position, event)
if aside then redis.call('SREM', KEYS[3], rater) else redis.call('SADD', KEYS[3], rater) end
redis.call('SET', KEYS[4], position, 'EX', ARGV[6])
act(KEYS[5], KEYS[6], KEYS[7], 'rater.' .. action, ARGV[8], ARGV[7], ARGV[9])
return answer(1)
