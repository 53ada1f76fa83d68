-- An entry of the cache, and the tokens of its marks for whoever is to load it.
-- KEYS    1 entry (string): tokens, line feed, JSON  2 lock (string): who loads it  3… tokens of the marks (string)
-- ARGV    1 caller  2 ms of the lock  3 ms that tokens are kept for a load  4 a new token  5 ms that an entry is kept when its time
--         is over  6 1 to load even if another is at it
-- Output  {JSON or false, ms until it is of no use, tokens with blanks between them or ''}
-- An entry holds while each of its tokens is still the mark's. After a lost answer the lock ends by its time.
local n = #KEYS
local tokens = redis.call('MGET', unpack(KEYS, 3, n))
local all = true
for i = 1, n - 2 do
  all = all and tokens[i]
end

local body, left = false, 0
if all then
  local value = redis.call('GET', KEYS[1])
  if value then
    local head = table.concat(tokens, ' ') .. '\n'
    if string.sub(value, 1, #head) == head then
      body, left = string.sub(value, #head + 1), redis.call('PTTL', KEYS[1])
      local tail = body == 'null' and 0 or ARGV[5] + 0
      if left > tail then
        return { body, left, '' }
      end
    end
  end
end

if ARGV[6] ~= '1' and not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return { body, left, '' }
end
for i = 1, n - 2 do
  if not tokens[i] then
    tokens[i] = ARGV[4]
    redis.call('SET', KEYS[i + 2], ARGV[4], 'PX', ARGV[3])
  elseif redis.call('PTTL', KEYS[i + 2]) < ARGV[3] + 0 then
    redis.call('PEXPIRE', KEYS[i + 2], ARGV[3])
  end
end
return { body, left, table.concat(tokens, ' ') }
