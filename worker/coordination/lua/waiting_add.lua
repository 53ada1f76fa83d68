-- Put jobs in the waiting index, or move them to their new place.
-- KEYS    1 jobs (hash)  2 users (zset)  3 later (zset)
-- ARGV    1 prefix of the users' queues  2… four of each job: id, score, due, user
-- Output  nothing. Idempotent; what is there already costs reads only and keeps its turn.
local jobs, users, later, prefix = KEYS[1], KEYS[2], KEYS[3], ARGV[1]

local function last_turn()
  local last = redis.call('ZREVRANGE', users, 0, 0, 'WITHSCORES')
  return tonumber(last[2] or 0) + 1
end

local function remove(id, record)
  local user = string.match(record, '^%S+ %S+ (.*)$')
  redis.call('ZREM', later, id)
  if redis.call('ZREM', prefix .. user, id) == 1 and redis.call('EXISTS', prefix .. user) == 0 then
    redis.call('ZREM', users, user)
  end
end

if redis.call('EXISTS', users) == 0 and redis.call('HLEN', jobs) > redis.call('ZCARD', later) then
  redis.call('UNLINK', jobs) -- somebody deleted a key; see waiting_heads.lua
end

for i = 2, #ARGV, 4 do
  local id, score, due, user = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local record = score .. ' ' .. due .. ' ' .. user
  local known = redis.call('HGET', jobs, id)
  local listed = redis.call('ZSCORE', users, user)
  if known ~= record or not ((listed and redis.call('ZSCORE', prefix .. user, id)) or redis.call('ZSCORE', later, id)) then
    if known then
      remove(id, known)
    end
    redis.call('HSET', jobs, id, record)
    if tonumber(due) > 0 then
      redis.call('ZADD', later, due, id)
    else
      redis.call('ZADD', prefix .. user, score, id)
      redis.call('ZADD', users, 'NX', last_turn(), user)
    end
  end
end
