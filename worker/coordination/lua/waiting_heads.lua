-- The first of each user's queue in turn, then the second of each, …; what became due joins its queue first.
-- KEYS    1 jobs (hash)  2 users (zset)  3 later (zset)
-- ARGV    1 prefix of the users' queues  2 ids at most  3 now, on the clock of `due`  4 due jobs moved at most
-- Output  list of ids. Reads at most `limit` users and about two entries for each id it returns.
-- When somebody deleted a key: ids of no known job are taken out, and where jobs are missing the hash goes, so that the
-- index counts as empty and the sweep adds every job again.
local jobs, users, later, prefix = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local limit = tonumber(ARGV[2])

for _, id in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', ARGV[3], 'LIMIT', 0, ARGV[4])) do
  redis.call('ZREM', later, id)
  local record = redis.call('HGET', jobs, id)
  if record then
    local score, user = string.match(record, '^(%S+) %S+ (.*)$')
    local last = redis.call('ZREVRANGE', users, 0, 0, 'WITHSCORES')
    redis.call('ZADD', prefix .. user, score, id)
    redis.call('ZADD', users, 'NX', tonumber(last[2] or 0) + 1, user)
  end
end

local strays = 10 * limit -- bounds the cleaning of one call
local function entry(user, rank)
  while strays > 0 do
    local id = redis.call('ZRANGE', prefix .. user, rank, rank)[1]
    if not id or redis.call('HEXISTS', jobs, id) == 1 then
      return id
    end
    redis.call('ZREM', prefix .. user, id)
    strays = strays - 1
  end
end

local heads, damaged = {}, false
local turn = redis.call('ZRANGE', users, 0, limit - 1)
local rank = 0
while #turn > 0 and #heads < limit do
  local longer = {}
  for _, user in ipairs(turn) do
    local before = strays
    local id = entry(user, rank)
    if id and #heads < limit then
      heads[#heads + 1] = id
      longer[#longer + 1] = user
    elseif not id and redis.call('EXISTS', prefix .. user) == 0 then
      redis.call('ZREM', users, user)
      damaged = damaged or strays == before
    end
  end
  turn = longer
  rank = rank + 1
end
if damaged or (redis.call('EXISTS', users) == 0 and redis.call('HLEN', jobs) > redis.call('ZCARD', later)) then
  redis.call('UNLINK', jobs)
end
return heads
