-- Forgets what a rater did. Answers given stay counted, without a name; what they hold goes to others.
-- ARGV[5..]: rater
-- Returns {how many tasks knew of them}.
local rater, known = ARGV[5], 0
local mine = doings(rater)
for _, id in ipairs(redis.call('HKEYS', mine)) do
  local task = load(id)
  if task then
    release(task, rater)
    redis.call('HDEL', task.key, 'a:' .. rater, 's:' .. rater)
    known = known + 1
  end
end
redis.call('DEL', mine)
return {known}
