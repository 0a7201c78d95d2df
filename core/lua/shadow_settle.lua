-- Counts pairs that were compared, or whose records are gone, and removes the answers that nobody saw. A pair counts
-- while it waits: who comes second, or sends this again, changes nothing.
-- KEYS: the release's counts, the set of those that wait, then the completions
-- ARGV: judge ('' if none was asked), life of the counts (s), JSON of {completion id, {outcome, sum, value, sum, …}}
local judge = ARGV[1]
for place, each in ipairs(cjson.decode(ARGV[3])) do
  if redis.call('SREM', KEYS[2], each[1]) == 1 then
    local counts = each[2]
    redis.call('HINCRBY', KEYS[1], counts[1], 1)
    for index = 2, #counts, 2 do redis.call('HINCRBYFLOAT', KEYS[1], counts[index], counts[index + 1]) end
    redis.call('HDEL', KEYS[place + 2], 'shadow')
  end
end
if judge ~= '' then redis.call('HSET', KEYS[1], 'judge', judge) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
