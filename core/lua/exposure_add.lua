-- Counts completions of a release that ended, once for each batch of a replica.
-- KEYS: release-exposure, release-people (with `:{share}:{arm}` behind it: who was seen in that arm at that share)
-- ARGV: replica, number of the batch, completions (JSON, core/exposures.py), completions that count of one person, TTL
-- Returns 1 if they were counted now, 0 if they had been.
local last = redis.call('HGET', KEYS[1], 'batch:' .. ARGV[1])
if last and tonumber(last) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'batch:' .. ARGV[1], ARGV[2])

local function count(arm, names)
  for _, name in ipairs(names) do redis.call('HINCRBY', KEYS[1], arm .. ':' .. name, 1) end
end

-- Which of this person's completions in the arm it is; nil beyond the last that counts.
local function ordinal(arm, rater)
  if rater == '' then return 1 end
  for number = 1, tonumber(ARGV[4]) do
    if redis.call('PFADD', KEYS[2], arm .. ':' .. number .. ':' .. rater) == 1 then return number end
  end
  return nil
end

for _, ended in ipairs(cjson.decode(ARGV[3])) do
  count(ended.arm, {'share:' .. ended.share})
  if ended.rater ~= '' then
    local seen = KEYS[2] .. ':' .. ended.share .. ':' .. ended.arm
    redis.call('PFADD', seen, ended.rater)
    redis.call('EXPIRE', seen, ARGV[5])
  end
  local number = ordinal(ended.arm, ended.rater)
  if number then count(ended.arm, ended.each) end
  if number == 1 then count(ended.arm, ended.first) end
end
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('EXPIRE', KEYS[2], ARGV[5])
return 1
