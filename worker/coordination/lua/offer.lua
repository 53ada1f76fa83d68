-- Append messages to the intake, all or none, and say whether a nudge is due.
-- KEYS    1 intake (stream)  2 nudge flag (string)
-- ARGV    1 messages the intake holds at most  2 lifetime of the flag, ms  3 token of this call  4… messages
-- Output  -1 full, nothing was appended; 1 send a nudge; 0 one is pending
-- Run again after a lost answer it appends again (messages are idempotent) and gives the same answer (the token).
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  return -1
end
for i = 4, #ARGV do
  redis.call('XADD', KEYS[1], '*', 'body', ARGV[i])
end
if redis.call('SET', KEYS[2], ARGV[3], 'NX', 'PX', ARGV[2]) or redis.call('GET', KEYS[2]) == ARGV[3] then
  return 1
end
return 0
