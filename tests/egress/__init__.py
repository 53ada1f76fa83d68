"""Everything that may lead a download into a private network, and a small world in which it is tried."""
