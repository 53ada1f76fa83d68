-- Put jobs in the waiting index, or move them to their new place.
-- KEYS    1 jobs (hash)  2 users (zset)  3 later (zset)  4 clock (hash)
-- ARGV    1 prefix of the users' queues  2… five of each job: id, score, due, tier, user
-- Output  nothing. Idempotent; what is there already costs reads only, and a user who is listed keeps the turn.
local jobs, users, later, clock, prefix = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]
-- A newcomer begins a second behind the present turn: those who came before go first.
local newcomer = string.format('%.17g', tonumber(redis.call('HGET', clock, 'turn') or 0) + 1)

local function user_of(record)
  local length, rest = string.match(record, '^%S+ %S+ (%d+):(.*)$')
  return length and string.sub(rest, tonumber(length) + 1)
end

local function remove(id, user)
  redis.call('ZREM', later, id)
  if user and redis.call('ZREM', prefix .. user, id) == 1 and redis.call('EXISTS', prefix .. user) == 0 then
    redis.call('ZREM', users, user)
  end
end

if redis.call('EXISTS', users) == 0 and redis.call('HLEN', jobs) > redis.call('ZCARD', later) then
  redis.call('UNLINK', jobs) -- somebody deleted a key; see waiting_heads.lua
end

for i = 2, #ARGV, 5 do
  local id, score, due, tier, user = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local record = score .. ' ' .. due .. ' ' .. #tier .. ':' .. tier .. user
  local known = redis.call('HGET', jobs, id)
  local listed = redis.call('ZSCORE', users, user)
  if known ~= record or not ((listed and redis.call('ZSCORE', prefix .. user, id)) or redis.call('ZSCORE', later, id)) then
    local before = known and user_of(known)
    if known and (before ~= user or tonumber(due) > 0) then
      remove(id, before)
    end
    redis.call('HSET', jobs, id, record)
    if tonumber(due) > 0 then
      redis.call('ZADD', later, due, id)
    else
      redis.call('ZREM', later, id)
      redis.call('ZADD', prefix .. user, score, id)
      redis.call('ZADD', users, 'NX', newcomer, user)
    end
  end
end
