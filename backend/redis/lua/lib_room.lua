-- For scripts that must work while the server is full (maxmemory): they keep
-- leases, record what clients have answered, or free more than they take.
-- A server asks for room before a script's first write only. PERSIST is one that
-- it asks for none, and changes nothing: no first key of these scripts expires.
redis.call('PERSIST', KEYS[1])
