-- Names the run of a gateway, for which clients are added to its list.
-- KEYS   1 run
-- ARGV   1 name
-- Result 0
redis.call('SET', KEYS[1], ARGV[1])
return 0
