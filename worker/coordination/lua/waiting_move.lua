-- Move the turns on by the shares they had since the last call, then by the steps of those who were admitted.
-- KEYS    1 users (zset)  2 clock (hash)  3 shares (hash)  4 freed (hash)
-- ARGV    1 at  2 longest time between two calls that counts  3 how far a turn may be from the others'
--         4 pace  5 reached  6 slots taken before  7 and after  8 mark of the call  9 how many steps
--         10… two of each step: user, step; then two of each share: user, share
-- Output  nothing; a call that is sent again changes nothing.
--         clock: `at`, `live` (slots taken) and `call` of the last call, `turn` where newcomers begin, `pace` from then on.
--         freed: of each of the last minutes `<minute>` the slots that became free, `<minute> s` the seconds that were seen.
local users, clock, shares, freed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local at, gap, bound = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local old = redis.call('HMGET', clock, 'at', 'turn', 'pace', 'live', 'call')
if old[5] == ARGV[8] then
  return
end
local turn = tonumber(old[2] or 0)
local passed = at - tonumber(old[1] or at)
local watched = passed >= 0 and passed <= gap
passed = math.min(math.max(passed, 0), gap)

local function put(user, score)
  redis.call('ZADD', users, string.format('%.17g', score), user)
end

local now = math.max(turn + tonumber(old[3] or 0) * passed, tonumber(ARGV[5]))
local had = redis.call('HGETALL', shares)
for i = 1, #had, 2 do
  local score = redis.call('ZSCORE', users, had[i])
  if score then
    put(had[i], math.min(math.max(tonumber(score), turn - bound) + tonumber(had[i + 1]) * passed, now + bound))
  end
end
local first_share = 10 + 2 * tonumber(ARGV[9])
for i = 10, first_share - 1, 2 do
  local score = redis.call('ZSCORE', users, ARGV[i])
  if score then
    put(ARGV[i], tonumber(score) + tonumber(ARGV[i + 1]))
  end
end

redis.call('DEL', shares)
for i = first_share, #ARGV, 2 do
  redis.call('HSET', shares, ARGV[i], ARGV[i + 1])
end
redis.call('HSET', clock, 'at', ARGV[1], 'turn', string.format('%.17g', now), 'pace', ARGV[4], 'live', ARGV[7], 'call', ARGV[8])

local minute = math.floor(at / 60)
if old[4] and watched then
  redis.call('HINCRBY', freed, minute, math.max(0, tonumber(old[4]) - tonumber(ARGV[6])))
  redis.call('HINCRBYFLOAT', freed, minute .. ' s', string.format('%.17g', passed))
end
for _, field in ipairs(redis.call('HKEYS', freed)) do
  local seen = tonumber(string.match(field, '^%d+'))
  if seen < minute - 10 or seen > minute then
    redis.call('HDEL', freed, field)
  end
end
redis.call('EXPIRE', freed, 900)
