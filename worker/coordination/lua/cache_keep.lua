-- Keep what was loaded, if nothing it came from was invalidated meanwhile, and let others load.
-- KEYS    1 entry (string)  2 lock (string)  3 index (zset): entry by the ms at which it ends  4 sizes (hash): bytes of an entry, and
--         of all under ''  5… tokens of the marks (string)
-- ARGV    1 caller  2 ms to keep it  3 JSON  4 bytes that all entries may take, 0 for no index  5 bytes beside entry and name
--         6 ms that tokens are kept longer  7… tokens that the load began with
-- Output  1 when the tokens hold, 0 otherwise
if redis.call('GET', KEYS[2]) == ARGV[1] then
  redis.call('DEL', KEYS[2])
end
local n, marks = #KEYS, #KEYS - 4
local tokens = redis.call('MGET', unpack(KEYS, 5, n))
for i = 1, marks do
  if tokens[i] ~= ARGV[6 + i] then
    return 0
  end
end

local life, room = ARGV[2] + 0, ARGV[4] + 0
local value = table.concat(tokens, ' ') .. '\n' .. ARGV[3]
if room > 0 then
  local index, sizes, name = KEYS[3], KEYS[4], KEYS[1]
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local total = tonumber(redis.call('HGET', sizes, '') or 0)
  local function let_go(entry)
    local size = tonumber(redis.call('HGET', sizes, entry) or 0)
    if size > 0 then
      redis.call('HDEL', sizes, entry)
      total = total - size
    end
    redis.call('ZREM', index, entry)
  end
  let_go(name)
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, 20)) do
    let_go(entry) -- the server has removed it
  end
  local size = #value + 3 * #name + ARGV[5]
  while total + size > room do -- those go first that end first
    local first = redis.call('ZRANGE', index, 0, 0)[1]
    if not first then
      break
    end
    redis.call('UNLINK', first)
    let_go(first)
  end
  redis.call('ZADD', index, now + life, name)
  redis.call('HSET', sizes, name, size, '', total + size)
end
redis.call('SET', KEYS[1], value, 'PX', life)
for i = 5, n do
  if redis.call('PTTL', KEYS[i]) < life + ARGV[6] then
    redis.call('PEXPIRE', KEYS[i], life + ARGV[6])
  end
end
return 1
