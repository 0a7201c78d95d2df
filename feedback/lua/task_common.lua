-- What every task script begins with; the scripts' own text is appended.
-- KEYS[1]: tasks that have a free place, by their order. KEYS[2]: when leases (`{task} {rater}`) and open tasks
-- (`{task}`) end, in seconds. ARGV[1..4]: prefixes of the keys of tasks, of raters' doings, of comparisons, of completions.
--
-- A place of a task is taken by an answer or by a live lease. A vote that lies on the target is an answer, whether or
-- not its process lived to mark it: whoever looks next does it, so that a crash between the two gives no place away
-- twice.
-- No process runs for what ends by itself: every script begins with a `sweep`.
local READY, DUE = KEYS[1], KEYS[2]
local clock = redis.call('TIME')
local NOW = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local SWEPT = 100

local function doings(rater)
  return ARGV[2] .. rater
end

local function load(id)
  local key = ARGV[1] .. id
  local held = redis.call('HMGET', key, 'record', 'state', 'order', 'answered', 'leased')
  if not held[1] then return nil end
  local record = cjson.decode(held[1])
  local kinds = {compare = 'preference', rank = 'ranking', rate = 'rating', correct = 'correction'}
  local on = record.target
  return {
    id = id, key = key, json = held[1], open = held[2] == 'open', order = held[3], overlap = record.overlap,
    answered = tonumber(held[4]), leased = tonumber(held[5]), deadline = record.deadline,
    target = (on.type == 'comparison' and ARGV[3] or ARGV[4]) .. on.id,
    vote = on.choice_index .. ':' .. kinds[record.kind],
  }
end

local function has_room(task)
  return task.open and task.answered + task.leased < task.overlap
end

-- The vote of a rater on the task's target: a feedback id, or false.
local function vote_of(task, rater)
  return redis.call('HGET', task.target, 'v:human:' .. rater .. ':' .. task.vote)
end

-- A comparison that was decided meanwhile is revealed now; nobody else is to judge it blind.
local function close(task, state)
  if not task.open then return end
  task.open = false
  redis.call('HSET', task.key, 'state', state)
  redis.call('ZREM', READY, task.id)
  redis.call('ZREM', DUE, task.id)
  local decided = redis.call('HGET', task.target, 'decided')
  if decided then redis.call('HSET', task.target, 'revealed', decided) end
  redis.call('HDEL', task.target, 't:' .. task.vote, 'decided')
end

local function queue(task)
  if has_room(task) then
    redis.call('ZADD', READY, task.order, task.id)
  else
    redis.call('ZREM', READY, task.id)
  end
end

local function lease(task, rater, until_)
  local fresh = redis.call('ZADD', DUE, until_, task.id .. ' ' .. rater)
  redis.call('HSET', doings(rater), task.id, 'leased')
  if fresh == 1 then task.leased = redis.call('HINCRBY', task.key, 'leased', 1) end
  queue(task)
end

-- Ends a lease, if there is one.
local function release(task, rater)
  if redis.call('ZREM', DUE, task.id .. ' ' .. rater) == 0 then return end
  task.leased = redis.call('HINCRBY', task.key, 'leased', -1)
  if redis.call('HGET', doings(rater), '@lease') == task.id then redis.call('HDEL', doings(rater), '@lease') end
  redis.call('HDEL', doings(rater), task.id)
  queue(task)
end

-- Marks the rater's vote as an answer; false if there is none.
local function settle(task, rater)
  local vote = vote_of(task, rater)
  if not vote then return false end
  if redis.call('HSETNX', task.key, 'a:' .. rater, vote) == 1 then
    task.answered = redis.call('HINCRBY', task.key, 'answered', 1)
    redis.call('HINCRBY', doings(rater), '@answered', 1)
  end
  release(task, rater)
  redis.call('HSET', doings(rater), task.id, 'answered')
  if task.answered >= task.overlap then close(task, 'done') end
  queue(task)
  return true
end

local function sweep()
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', NOW, 'LIMIT', 0, SWEPT)) do
    local id, rater = string.match(member, '^(%S+) (.*)$')
    local task = load(id or member)
    if not task then
      redis.call('ZREM', DUE, member)
    elseif not rater then
      close(task, 'expired')
    elseif not settle(task, rater) then
      release(task, rater)
    end
  end
end

sweep()
