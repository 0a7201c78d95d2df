-- Counts the vote that now lies on the target as this rater's answer. Twice is once.
-- ARGV[5..]: task, rater
-- Returns {1}, or {0} if there is no such task or vote.
local task = load(ARGV[5])
return {task and settle(task, ARGV[6]) and 1 or 0}
