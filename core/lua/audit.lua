-- audit(stream, head, {field, value, ...}): appends one entry to the audit trail. After sha256.lua.
-- act(registry, stream, head, action, actor, reason, subject): the same of an act that changes no policy.
-- Each entry ends with the SHA-256 of its other fields and values, each written as length:text, among them `previous`,
-- the hash of the entry before: whoever edits, drops or moves one breaks the chain. `head` is the hash at its end.
local clock = redis.call('TIME')
local NOW = clock[1] .. '.' .. string.format('%06d', clock[2])  -- one time for all that a script does

local function audit(stream, head, fields)
  local entry = {'previous', redis.call('HGET', head, 'sha256') or string.rep('0', 64)}
  for _, text in ipairs(fields) do entry[#entry + 1] = tostring(text) end
  entry[#entry + 1] = 'at'
  entry[#entry + 1] = NOW
  local told = {}
  for index, text in ipairs(entry) do told[index] = #text .. ':' .. text end
  local hash = sha256(table.concat(told))
  entry[#entry + 1] = 'sha256'
  entry[#entry + 1] = hash
  redis.call('XADD', stream, '*', unpack(entry))
  redis.call('HSET', head, 'sha256', hash)
  redis.call('HINCRBY', head, 'entries', 1)
end

local function act(registry, stream, head, action, actor, reason, subject)
  audit(stream, head, {'generation', redis.call('HGET', registry, 'generation') or 0, 'action', action, 'actor', actor,
    'reason', reason, 'subject', subject})
end
