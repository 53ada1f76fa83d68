"""aria2 as an engine, through JSON-RPC."""
