-- Add what a process counted to what is asked most; when there are too many, the rarest makes room for the newcomer, which has its
-- count on top.
-- KEYS    1 what is asked of the cache this day (zset)  2 reads of this minute (hash)
-- ARGV    1 how many are kept  2 ms to keep them  3 ms to keep the minute  4 reads  5 those found  6… JSON, count
-- Output  1
local asked, most = KEYS[1], ARGV[1] + 0
for i = 6, #ARGV, 2 do
  local text, count = ARGV[i], ARGV[i + 1] + 0
  if not redis.call('ZSCORE', asked, text) and redis.call('ZCARD', asked) >= most then
    count = count + redis.call('ZPOPMIN', asked)[2]
  end
  redis.call('ZINCRBY', asked, count, text)
end
redis.call('PEXPIRE', asked, ARGV[2])
redis.call('HINCRBY', KEYS[2], 'reads', ARGV[4])
redis.call('HINCRBY', KEYS[2], 'found', ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
