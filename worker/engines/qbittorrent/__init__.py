"""qBittorrent as an engine, through its web API."""
