"""The servers of an embedded stack: Valkey, aria2c and qBittorrent, each found and started on a loopback port with a secret.

Secrets stand in configuration files that only the owner can read, never on a command line. A server ends when the
thread that started it does, whatever that thread's process died of.
"""

from worker.cli.servers.aria2 import find_aria2c, start_aria2c
from worker.cli.servers.process import Server, ServerFailed, free_port, stop_together
from worker.cli.servers.programs import ServerMissing
from worker.cli.servers.qbittorrent import find_qbittorrent, start_qbittorrent
from worker.cli.servers.valkey import find_valkey, start_valkey

__all__ = [
    "Server",
    "ServerFailed",
    "ServerMissing",
    "find_aria2c",
    "find_qbittorrent",
    "find_valkey",
    "free_port",
    "start_aria2c",
    "start_qbittorrent",
    "start_valkey",
    "stop_together",
]
