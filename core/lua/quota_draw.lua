-- Draws one from a bucket, or says how long to wait for one (ms). After quota_common.lua.
-- KEYS: quota, call    ARGV: bucket, its limit a minute
-- The Redis client's silent retry finds `call` and is told the same.
local told = redis.call('GET', KEYS[2])
if told then return tonumber(told) end
local limit = tonumber(ARGV[2])
local delay = wait(level(KEYS[1], ARGV[1], limit), 1, limit)
redis.call('SET', KEYS[2], delay, 'EX', 60)
if delay == 0 then draw(KEYS[1], ARGV[1], limit, 1) end
return delay
