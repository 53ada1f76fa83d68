-- What the event stream holds, and the events behind a place.
-- KEYS    1 events (stream)
-- ARGV    1 place, or '' for none  2 events at most
-- Output  {oldest id kept or '', newest id ever, 1 when entries were trimmed else 0, list of {id, {field, value}}}
local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
if info.err then -- no such stream
  return { '', '0-0', 0, {} }
end
local state = {}
for i = 1, #info, 2 do
  state[info[i]] = info[i + 1]
end
local first = state['first-entry'] and state['first-entry'][1] or ''
local trimmed = (state['entries-added'] or state.length) > state.length and 1 or 0
local entries = {}
if ARGV[1] ~= '' then
  entries = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
end
return { first, state['last-generated-id'], trimmed, entries }
