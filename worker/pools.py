"""How many connections a process keeps to each service, by `HAUL_PROFILE`; the table is in docs/pools.md, which a test compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pools:
    """Connections of one process; a call waits for a free one, for as long as its own time-out.

    Attributes:
        store: to MongoDB; an SQLite store has one connection that writes and up to 8 that read.
        redis: to Redis for short calls, and as many for calls that wait on the server.
        select_s: how long a MongoDB may take to be found when a process starts.
    """

    store: int
    redis: int
    select_s: float


POOLS: Mapping[str, Pools] = {
    "development": Pools(store=10, redis=20, select_s=3.0),
    "staging": Pools(store=25, redis=30, select_s=5.0),
    "production": Pools(store=50, redis=50, select_s=8.0),
}
#: Of the one HTTP session of each engine.
HTTP_CONNECTIONS = 4
#: What nobody has used for so long is closed.
STORE_IDLE_S = 300.0
