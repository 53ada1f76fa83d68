-- Append messages to the intake, all or none, and wake a sweeper.
-- KEYS    1 intake (stream)  2 wake of the sweeper (list)
-- ARGV    1 messages the intake holds at most  2 lifetime of the wake, s  3… messages
-- Output  -1 full, nothing was appended; else how many were
-- Run again after a lost answer it appends again: messages are idempotent.
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  return -1
end
for i = 3, #ARGV do
  redis.call('XADD', KEYS[1], '*', 'body', ARGV[i])
end
if redis.call('EXISTS', KEYS[2]) == 0 then -- one that waits is enough
  redis.call('LPUSH', KEYS[2], '1')
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return #ARGV - 2
