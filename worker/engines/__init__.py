"""Download programs behind `worker.ports.Engine`: the real ones, a fake beside them, and the table that builds them."""
