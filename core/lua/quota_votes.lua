-- May these raters cast so many votes with this key? Those who may have them counted. After quota_common.lua.
-- KEYS: quota, usage, call    ARGV: votes a minute of each rater (0: no limit), then pairs: rater, votes
-- Returns of each rater the milliseconds to wait, 0 if they may vote.
-- The Redis client's silent retry finds `call` and is told the same.
local told = redis.call('GET', KEYS[3])
if told then return cjson.decode(told) end
local limit, answer, taken = tonumber(ARGV[1]), {}, 0
for index = 2, #ARGV, 2 do
  local bucket, votes, delay = 'votes:' .. ARGV[index], tonumber(ARGV[index + 1]), 0
  if limit > 0 then
    local left = level(KEYS[1], bucket, limit)
    if left < math.min(votes, limit) then delay = wait(left, math.min(votes, limit), limit) end
  end
  answer[#answer + 1] = delay
end
redis.call('SET', KEYS[3], cjson.encode(answer), 'EX', 60)
for index = 2, #ARGV, 2 do
  if answer[index / 2] == 0 then
    if limit > 0 then draw(KEYS[1], 'votes:' .. ARGV[index], limit, ARGV[index + 1]) end
    taken = taken + ARGV[index + 1]
  end
end
if taken > 0 then
  redis.call('HINCRBY', KEYS[2], DAY .. ' votes', taken)
  redis.call('EXPIRE', KEYS[2], KEPT)
end
return answer
