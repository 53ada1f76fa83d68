"""The chaos run: a whole stack under load, its processes killed, frozen and cut off at random from a seed, until every job has ended."""
