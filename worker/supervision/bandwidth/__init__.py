"""Every owner holds its engine, and each download there, to its part of what all may take together."""
