"""Jobs that leave their engine for another one: it is `drained`, it does not answer (`failover`), or nobody knows it (`abandoned`)."""
