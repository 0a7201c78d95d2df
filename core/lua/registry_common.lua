-- What all changes of the registry share. After sha256.lua and audit.lua.
-- KEYS 1-6: registry, policies, policy-states, audit, audit-head, releases. KEYS[7], where a change has it: a string that
-- keeps the answer of this very call, for the Redis client's silent retry of it.
local REGISTRY, POLICIES, STATES, RELEASES = KEYS[1], KEYS[2], KEYS[3], KEYS[6]

-- One change: the generation grows, and the audit trail tells of it.
local function changed(action, version, actor, reason, subject)
  local generation = redis.call('HINCRBY', REGISTRY, 'generation', 1)
  audit(KEYS[4], KEYS[5], {'generation', generation, 'action', action, 'version', version, 'actor', actor,
    'reason', reason, 'subject', subject or ''})
end

local function answered() return redis.call('GET', KEYS[7]) end

local function answer(value)
  redis.call('SET', KEYS[7], value, 'EX', 600)
  return {'done', tonumber(value)}
end

-- Releases are flat records (core/releases.py), so cjson may read and write them; times stay strings, which it would
-- round to 14 digits.
local function find_release(id)
  local found = id and redis.call('HGET', RELEASES, id)
  return found and cjson.decode(found)
end

local function open_release() return find_release(redis.call('HGET', REGISTRY, 'release')) end

local function keep_release(release)
  redis.call('HSET', RELEASES, release.id, cjson.encode(release))
  if release.state == 'canary' then
    redis.call('HSET', REGISTRY, 'release', release.id, 'canary', release.version, 'share', release.share)
  else
    redis.call('HDEL', REGISTRY, 'release', 'canary', 'share')
  end
end

-- A candidate comes into traffic, against the version that is live. No release is open.
local function begin_release(version, stage, share, alpha, actor, reason)
  local release = {schema = 1, id = 'rel_' .. version, version = tonumber(version),
    against = tonumber(redis.call('HGET', REGISTRY, 'live')), state = 'canary', stage = tonumber(stage),
    share = tonumber(share), opened = NOW, staged = NOW, alpha = tonumber(alpha), reason = reason, actor = actor}
  keep_release(release)
  redis.call('HSET', STATES, version, 'canary')
  changed('release.opened', version, actor, reason, release.id)
end

local function end_release(release, state, share, actor, reason)
  release.state, release.share, release.actor, release.reason, release.ended = state, share, actor, reason, NOW
  keep_release(release)
end

-- Live is about to change in another way than by the open release: that one is over, as its incumbent will be gone.
local function stop_release(actor, reason)
  local release = open_release()
  if not release then return end
  end_release(release, 'stopped', 0, actor, reason)
  redis.call('HSET', STATES, release.version, 'retired')
  changed('release.stopped', release.version, actor, reason, release.id)
end

-- `version` takes all traffic, the version that had it becomes `previous`.
local function make_live(version)
  local live, previous = redis.call('HGET', REGISTRY, 'live'), redis.call('HGET', REGISTRY, 'previous')
  if previous then redis.call('HSET', STATES, previous, 'retired') end
  redis.call('HSET', STATES, live, 'previous', version, 'live')
  redis.call('HSET', REGISTRY, 'previous', live, 'live', version)
end
