"""What each download of aria2 is held to: a limit of its own, which changes while it runs without a break."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from worker.engines.aria2.rows import Row, leaves
from worker.engines.aria2.rpc import Aria2Rpc, Call, Refusal
from worker.engines.deadline import Deadline

LIMIT, OVERALL = "max-download-limit", "max-overall-download-limit"
#: Of a limit, by any number of downloads of any kind. It looks once a second, takes at once what is due, and divides what came in by
#: the time since the oldest of those looks that are ten seconds old at most (its `SpeedCalc`): the takings of ten by nine seconds.
TAKES = 0.9
#: Rows that are changed and read in one request: aria2 tells of each all its options, which are some kilobytes.
CHUNK_ROWS = 200

_LIVE = frozenset({"active", "waiting", "paused"})


def parts(chain: Sequence[Row], limit: int | None) -> Iterator[tuple[str, int]]:
    """The gids of a chain with what each gets: those at work divide the limit; one that waits gets as much as they do.

    A metalink of several files is as many downloads for aria2; 0 is no limit.
    """
    live = [row for row in leaves(chain) if row["status"] in _LIVE]
    active = sum(row["status"] == "active" for row in live) or len(live)
    for row in live:
        yield row["gid"], max(1, limit // active) if limit else 0


def give_all(rpc: Aria2Rpc, limit: int | None, deadline: Deadline) -> int | None:
    """Change the limit of all downloads together, and read it back."""
    calls: list[Call] = [("aria2.changeGlobalOption", [{OVERALL: str(limit or 0)}]), ("aria2.getGlobalOption", [])]
    _, options = rpc.multicall(calls, deadline)
    return None if isinstance(options, Refusal) else int(options[OVERALL]) or None


def give(rpc: Aria2Rpc, found: Mapping[str, Sequence[Row]], limits: Mapping[str, int | None], deadline: Deadline) -> dict[str, int | None]:
    """Change the limits of chains, and read them back; by handle.

    Args:
        found: chains with the keys of `CHAIN_KEYS`.
    """
    wanted = [(gid, part, handle) for handle, chain in found.items() for gid, part in parts(chain, limits[handle])]
    held: dict[str, bool] = {}
    odd: dict[str, int] = {}
    for begin in range(0, len(wanted), CHUNK_ROWS):
        chunk = wanted[begin : begin + CHUNK_ROWS]
        calls: list[Call] = [("aria2.changeOption", [gid, {LIMIT: str(part)}]) for gid, part, _ in chunk]
        calls += [("aria2.getOption", [gid]) for gid, _, _ in chunk]
        shown = rpc.multicall(calls, deadline)[len(chunk) :]
        for (_, part, handle), options in zip(chunk, shown, strict=True):
            if not isinstance(options, Refusal):  # else it ended meanwhile
                now = int(options.get(LIMIT, 0))
                held[handle] = held.get(handle, True) and now == part
                odd[handle] = odd.get(handle, 0) + now
    return {handle: (limits[handle] if kept else odd[handle]) or None for handle, kept in held.items()}
