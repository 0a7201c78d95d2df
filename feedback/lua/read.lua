-- One vote by its id, with its earlier revisions, newest first.
-- ARGV[3..]: feedback id, how many earlier revisions at most
-- Returns {view, [event JSON, ...], where the next earlier revision lies in the archive or ''}, or {} if there is none.
local found = newest(ARGV[3])
if not found then return {} end
local history, previous = {}, found.previous
while previous and #history < tonumber(ARGV[4]) do
  local entry = entry_at(previous)
  if not entry then return {view(found), history, previous} end
  history[#history + 1] = entry.event
  previous = entry.previous
end
return {view(found), history, ''}
