-- A request has ended: what it used is counted and drawn. After quota_common.lua.
-- KEYS: quota, in-flight, usage, call    ARGV: request, prompt tokens, completion tokens, tokens a minute (0: no limit)
-- The Redis client's silent retry finds `call` and counts nothing more.
if not redis.call('SET', KEYS[4], 1, 'NX', 'EX', 60) then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
local limit = tonumber(ARGV[4])
if limit > 0 then draw(KEYS[1], 'tokens', limit, ARGV[2] + ARGV[3]) end
redis.call('HINCRBY', KEYS[3], DAY .. ' requests', 1)
redis.call('HINCRBY', KEYS[3], DAY .. ' prompt_tokens', ARGV[2])
redis.call('HINCRBY', KEYS[3], DAY .. ' completion_tokens', ARGV[3])
redis.call('EXPIRE', KEYS[3], KEPT)
return 1
