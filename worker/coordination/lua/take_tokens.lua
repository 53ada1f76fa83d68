-- Take one token of each bucket of an ask, all or none, ask after ask, by the server's own clock.
-- KEYS    the buckets (string): `<tokens> <when, µs> <line, µs>`; gone while it is full and nobody is told to come back
-- ARGV    1 how far ahead the line may reach, µs; 0 for no line
--         then two of each bucket: tokens it gets a second, tokens it holds; then of each ask: how many buckets, and their places in KEYS
-- Output  {list: µs to wait of each ask, 0 for taken}, {list: millionths of a token in each bucket now}
-- The line is the time up to which refused asks were told to come back: one each time a token comes, so that they do not all
-- come at once. An ask beyond its reach is told the end of the reach. Run again after a lost answer it takes again: that never
-- lets more through.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local reach = tonumber(ARGV[1])

local buckets = {}
for i, key in ipairs(KEYS) do
  local rate, burst = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local bucket = { rate = rate / 1000000, burst = burst, tokens = burst, line = 0 }
  local tokens, at, line = string.match(redis.call('GET', key) or '', '^(%S+) (%d+) (%d+)$')
  if tokens then
    local passed = math.max(0, now - tonumber(at)) -- the server's clock may have been set back
    bucket.tokens = math.min(burst, (tonumber(tokens) or burst) + passed * bucket.rate)
    if tonumber(line) <= now + reach then -- one that is further ahead is from before the clock was set back
      bucket.line = tonumber(line)
    end
  end
  buckets[i] = bucket
end

local function ask(first, last)
  local need, lacking = 0, {}
  for place = first, last do
    local bucket = buckets[tonumber(ARGV[place])]
    if bucket.tokens < 1 then
      lacking[#lacking + 1] = bucket
      need = math.max(need, math.ceil((1 - bucket.tokens) / bucket.rate), 1)
    end
  end
  if #lacking == 0 then
    for place = first, last do
      local bucket = buckets[tonumber(ARGV[place])]
      bucket.tokens = bucket.tokens - 1
      bucket.changed = true
    end
    return 0
  end
  if reach == 0 then
    return need
  end
  local told = now + need
  for _, bucket in ipairs(lacking) do
    told = math.max(told, bucket.line + math.ceil(1 / bucket.rate))
  end
  if told > now + reach then
    return reach
  end
  for _, bucket in ipairs(lacking) do
    bucket.line = told
    bucket.changed = true
  end
  return told - now
end

local waits, place = {}, 2 * #KEYS + 2
while place <= #ARGV do
  local last = place + tonumber(ARGV[place])
  waits[#waits + 1] = ask(place + 1, last)
  place = last + 1
end

local left = {}
for i, bucket in ipairs(buckets) do
  left[i] = math.floor(bucket.tokens * 1000000)
  if bucket.changed then
    local full_ms = math.ceil(math.max((bucket.burst - bucket.tokens) / bucket.rate, bucket.line - now) / 1000)
    local value = string.format('%.17g %.0f %.0f', bucket.tokens, now, bucket.line)
    redis.call('SET', KEYS[i], value, 'PX', string.format('%.0f', math.min(math.max(full_ms, 1), 1e12)))
  end
end
return { waits, left }
