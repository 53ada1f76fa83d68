-- The users whose turn is next, with the first jobs of each; what became due joins its user's queue first.
-- KEYS    1 jobs (hash)  2 users (zset)  3 later (zset)  4 clock (hash)
-- ARGV    1 prefix of the users' queues  2 users at most  3 now, on the clock of `due`  4 due jobs moved at most
--         5 ids of each user, or more while all together are at most as many as the users asked for  6… users to pass over
-- Output  JSON, a list: how many users wait, then of each chosen one a list: user, tier, turn, jobs in the queue, ids…
--         Costs grow with what was asked for and with the users to pass over, not with users or jobs that wait.
-- When somebody deleted a key: ids of no known job are taken out, and where jobs are missing the hash goes, so that the
-- index counts as empty and the sweep adds every job again.
local jobs, users, later, clock, prefix = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]
local limit, depth = tonumber(ARGV[2]), tonumber(ARGV[5])

local function parts(record) -- score, tier, user
  local score, length, rest = string.match(record, '^(%S+) %S+ (%d+):(.*)$')
  if score then
    return score, string.sub(rest, 1, tonumber(length)), string.sub(rest, tonumber(length) + 1)
  end
end

local newcomer = string.format('%.17g', tonumber(redis.call('HGET', clock, 'turn') or 0) + 1)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', ARGV[3], 'LIMIT', 0, ARGV[4])) do
  redis.call('ZREM', later, id)
  local record = redis.call('HGET', jobs, id)
  local score, _, user = parts(record or '')
  if score then
    redis.call('ZADD', prefix .. user, score, id)
    redis.call('ZADD', users, 'NX', newcomer, user)
  end
end

local passed = {}
for i = 6, #ARGV do
  passed[ARGV[i]] = true
end
local turn, chosen = redis.call('ZRANGE', users, 0, limit + #ARGV - 6, 'WITHSCORES'), {}
for i = 1, #turn, 2 do
  if not passed[turn[i]] and #chosen < limit then
    chosen[#chosen + 1] = { turn[i], turn[i + 1] }
  end
end
if depth > 0 and #chosen > 0 then
  depth = math.max(depth, math.floor(limit / #chosen))
end

local strays = 10 * limit -- bounds the cleaning of one call
local function first_of(user)
  local queue, found, tier = prefix .. user, {}, ''
  repeat
    local ids, removed = redis.call('ZRANGE', queue, 0, math.max(depth, 1) - 1), 0
    local records = #ids > 0 and redis.call('HMGET', jobs, unpack(ids)) or {}
    found = {}
    for i, id in ipairs(ids) do
      if records[i] then
        found[#found + 1] = id
        if #found == 1 then
          local _, its = parts(records[i])
          tier = its or ''
        end
      else
        redis.call('ZREM', queue, id)
        removed, strays = removed + 1, strays - 1
      end
    end
  until removed == 0 or strays <= 0
  return found, tier
end

local heads, damaged = {}, false
for _, pair in ipairs(chosen) do
  local user, before = pair[1], strays
  local ids, tier = first_of(user)
  local size = redis.call('ZCARD', prefix .. user)
  if #ids > 0 then
    local line = { user, tier, pair[2], size }
    if depth > 0 then
      for _, id in ipairs(ids) do
        line[#line + 1] = id
      end
    end
    heads[#heads + 1] = line
  elseif size == 0 then
    redis.call('ZREM', users, user)
    damaged = damaged or strays == before
  end
end
if damaged or (redis.call('EXISTS', users) == 0 and redis.call('HLEN', jobs) > redis.call('ZCARD', later)) then
  redis.call('UNLINK', jobs)
end
table.insert(heads, 1, redis.call('ZCARD', users))
return cjson.encode(heads) -- one string: hundreds of small ones take the caller ten times as long to read
