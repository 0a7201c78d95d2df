-- The open release goes to its next stage.
-- KEYS: see registry_common.lua    ARGV: release id, stage that it leaves, share of the next stage, actor, reason
-- Returns {outcome, stage}: 'done', 'conflict' (it is not open any more, or at another stage: stage -1 or that one).
if answered() then return answer(answered()) end
local release = open_release()
if not release or release.id ~= ARGV[1] then return {'conflict', -1} end
if release.stage ~= tonumber(ARGV[2]) then return {'conflict', release.stage} end
release.stage, release.share, release.staged = release.stage + 1, tonumber(ARGV[3]), NOW
release.actor, release.reason = ARGV[4], ARGV[5]
keep_release(release)
changed('release.advanced', release.version, ARGV[4], ARGV[5], release.id)
return answer(release.stage)
