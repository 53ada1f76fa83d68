-- Messages for a consumer: first those another one left, then unread ones. Makes stream and group when they are gone.
-- KEYS    1 intake (stream)
-- ARGV    1 group  2 consumer  3 ms after which a message counts as left  4 messages at most
--         5 ms after which a consumer with nothing pending is forgotten
-- Output  list of {id, {field, value, …}}
-- What a lost answer carried counts as left by this consumer.
local intake, group, consumer, limit = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[4])

local made = redis.pcall('XGROUP', 'CREATECONSUMER', intake, group, consumer)
local full = type(made) == 'table' and string.find(made.err, 'OOM') -- the commands below need no memory, and free some
if type(made) == 'table' and not full then -- no such stream, or no such group in it
  redis.call('XGROUP', 'CREATE', intake, group, '0', 'MKSTREAM')
  made = redis.call('XGROUP', 'CREATECONSUMER', intake, group, consumer)
end

if made == 1 then -- a new process: the time to forget processes that ended
  for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', intake, group)) do
    local info = {}
    for i = 1, #flat, 2 do
      info[flat[i]] = flat[i + 1]
    end
    if info.name ~= consumer and info.pending == 0 and info.idle > tonumber(ARGV[5]) then
      redis.call('XGROUP', 'DELCONSUMER', intake, group, info.name)
    end
  end
end

-- After the server's clock was set back what is read seems to be read in the future, and never left. Nothing that is pending
-- is then worth waiting for, since one intake runs at a time.
local left_ms, now = ARGV[3], redis.call('TIME')
local newest = redis.call('XREVRANGE', intake, '+', '-', 'COUNT', 1)[1]
if newest and tonumber(string.match(newest[1], '^%d+')) > now[1] * 1000 + 1000 then
  left_ms = 0
end

local entries = {}
for _, entry in ipairs(redis.call('XAUTOCLAIM', intake, group, consumer, left_ms, '0-0', 'COUNT', limit)[2]) do
  if entry and entry[2] then -- before Redis 7 a deleted entry shows as nothing
    entries[#entries + 1] = entry
  end
end
if #entries < limit then
  local unread = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', limit - #entries, 'STREAMS', intake, '>')
  if unread then
    for _, entry in ipairs(unread[1][2]) do
      entries[#entries + 1] = entry
    end
  end
end
return entries
