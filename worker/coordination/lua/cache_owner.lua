-- A server that began anew may have lost the last invalidations: nothing that it has is given any more.
-- KEYS    1 server (string): the run of the server that the entries are from  2 token of the mark of everything (string)
-- ARGV    1 the run of this server
-- Output  1 when all was invalidated
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2])
return 1
