"""The cache: entries in this process and in Redis, and what keeps all processes of one mind about them."""
