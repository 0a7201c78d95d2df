-- May this key begin another request? If so it counts as under way. After quota_common.lua.
-- KEYS: quota, in-flight, usage    ARGV: request, how long it counts unless renewed (s), and limits, 0 for none:
-- requests a minute, tokens a minute, tokens a day, concurrency
-- Returns {'' or which limit refuses, ms to wait, requests left, ms until full, tokens left, ms until full}.
-- The Redis client's silent retry finds the request under way and takes nothing more.
local QUOTA, RUNNING, USAGE = KEYS[1], KEYS[2], KEYS[3]
local per_minute, tokens, daily, most = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local refused, delay = '', 0
local requests_left = per_minute > 0 and level(QUOTA, 'requests', per_minute) or 0
local tokens_left = tokens > 0 and level(QUOTA, 'tokens', tokens) or 0

local function refuse(limit, ms)
  if ms > delay then refused, delay = limit, ms end
end

if not redis.call('ZSCORE', RUNNING, ARGV[1]) then
  redis.call('ZREMRANGEBYSCORE', RUNNING, '-inf', string.format('(%.6f', NOW))
  if most > 0 and redis.call('ZCARD', RUNNING) >= most then refuse('concurrency', 1000) end
  if per_minute > 0 and requests_left < 1 then refuse('requests', wait(requests_left, 1, per_minute)) end
  if tokens > 0 and tokens_left < 1 then refuse('tokens', wait(tokens_left, 1, tokens)) end
  if daily > 0 then
    local used = redis.call('HMGET', USAGE, DAY .. ' prompt_tokens', DAY .. ' completion_tokens')
    if (tonumber(used[1]) or 0) + (tonumber(used[2]) or 0) >= daily then
      refuse('tokens_per_day', math.ceil(((DAY + 1) * 86400 - NOW) * 1000))
    end
  end
  if refused == '' then
    if per_minute > 0 then requests_left = draw(QUOTA, 'requests', per_minute, 1) end
    redis.call('ZADD', RUNNING, string.format('%.6f', NOW + ARGV[2]), ARGV[1])
    redis.call('EXPIRE', RUNNING, 86400)
  end
end
return {refused, delay, math.max(0, math.floor(requests_left)), per_minute > 0 and wait(requests_left, per_minute, per_minute) or 0,
  math.max(0, math.floor(tokens_left)), tokens > 0 and wait(tokens_left, tokens, tokens) or 0}
