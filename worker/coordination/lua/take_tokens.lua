-- Take one token of each bucket of an ask, all or none, ask after ask, by the server's own clock.
-- KEYS    the buckets (string): four doubles, tokens, when (µs), line (µs), ms it is kept from then; gone is full
-- ARGV    1 how far ahead the line may reach, µs; 0 for no line
--         then three of each bucket: tokens it gets a second, tokens it holds, ms until it is full and has no line;
--         then of each ask: how many buckets, and their places in KEYS
-- Output  list: µs to wait of each ask, 0 for taken; without asks the millionths of a token in each bucket
-- The line is the time up to which refused asks were told to come back: one each time a token comes, so that they do not all
-- come at once. An ask beyond its reach is told the end of the reach. Run again after a lost answer it takes again: that never
-- lets more through.
-- A bucket that was kept by a faster limit is kept anew by whoever looks, even one who is refused: gone by that limit's time it
-- would be full by this one's.
local time, reach, n = redis.call('TIME'), ARGV[1] + 0, #KEYS
local now = time[1] * 1000000 + time[2]

local function level(i)
  local full, value = ARGV[3 * i] + 0, redis.call('GET', KEYS[i])
  if not value or #value ~= 32 then
    return full, 0
  end
  local tokens, at, line, kept = struct.unpack('dddd', value)
  if now > at then -- else the server's clock was set back: what is there stays
    tokens = tokens + (now - at) * ARGV[3 * i - 1] / 1000000
  end
  if not (tokens < full) then
    tokens = full
  end
  if not (line <= now + reach) then -- it is from before the clock was set back
    line = 0
  end
  return tokens, line, now < at or not (kept >= ARGV[3 * i + 1] + 0)
end

local function keep(i, tokens, line)
  local kept = ARGV[3 * i + 1]
  redis.call('PSETEX', KEYS[i], kept, struct.pack('dddd', tokens, now, line, kept))
end

if n == 1 and #ARGV == 6 then -- the usual call: tables would cost as much as all the rest
  local tokens, line, stale = level(1)
  if tokens >= 1 then
    keep(1, tokens - 1, line)
    return { 0 }
  elseif reach == 0 and not stale then
    return { math.ceil((1 - tokens) * 1000000 / ARGV[2]) }
  end
end

local held, line, changed, waits = {}, {}, {}, {}
for i = 1, n do
  held[i], line[i], changed[i] = level(i)
end

local place, last, looks = 3 * n + 2, #ARGV, #ARGV == 3 * n + 1
while place <= last do
  local to, need, told = place + ARGV[place], 0, 0
  for at = place + 1, to do
    local i = ARGV[at] + 0
    if held[i] < 1 then
      local rate = ARGV[3 * i - 1] / 1000000
      need = math.max(need, 1, math.ceil((1 - held[i]) / rate))
      told = math.max(told, line[i] + math.ceil(1 / rate))
    end
  end
  if need > 0 and reach > 0 then
    told = math.max(told, now + need)
    need = math.min(told - now, reach)
  end
  for at = place + 1, to do
    local i = ARGV[at] + 0
    if need == 0 then
      held[i], changed[i] = held[i] - 1, true
    elseif held[i] < 1 and told <= now + reach then
      line[i], changed[i] = told, true
    end
  end
  waits[#waits + 1] = need
  place = to + 1
end

for i = 1, n do
  if changed[i] then
    keep(i, held[i], line[i])
  end
  held[i] = math.floor(held[i] * 1000000)
end
return looks and held or waits
