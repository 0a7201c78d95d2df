-- The open release ends: its candidate goes live, or the incumbent stays.
-- KEYS: see registry_common.lua    ARGV: release id, state (promoted | rolled_back | kept | stopped), actor, reason
-- Returns {outcome, version that is live}: 'done', or 'conflict' (it is not open any more).
if answered() then return answer(answered()) end
local release, state = open_release(), ARGV[2]
if not release or release.id ~= ARGV[1] then return {'conflict', -1} end
end_release(release, state, state == 'promoted' and 1 or 0, ARGV[3], ARGV[4])
if state == 'promoted' then
  make_live(release.version)
  changed('promote', release.version, ARGV[3], ARGV[4], release.id)
else
  redis.call('HSET', STATES, release.version, state == 'rolled_back' and 'rolled_back' or 'retired')
  changed('release.' .. state, release.version, ARGV[3], ARGV[4], release.id)
end
return answer(redis.call('HGET', REGISTRY, 'live'))
