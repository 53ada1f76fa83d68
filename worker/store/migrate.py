"""Everything one store keeps, copied into another and compared, whichever two they are.

The source is only read, and nothing that the target has is changed. Each step can be broken off anywhere and begun again: what the
target already has is not written a second time, and a job is there only after its `.torrent` file is.
"""

from __future__ import annotations

from collections.abc import Sequence

from worker.failpoints import Failpoints
from worker.ports import JobStore
from worker.store.comparison import BATCH, Comparison, NotCopied, Survey, Turn, alike, named


def compare(source: JobStore, target: JobStore | None, turn: Turn) -> Comparison:
    """Read both and compare everything; None is a target that is still to be made.

    A `.torrent` file that no job of the source names is not looked at: it belongs to a
    request that was never recorded.
    """
    return Survey(source, target, turn).whole()


def copy(source: JobStore, target: JobStore, comparison: Comparison, turn: Turn, failpoints: Failpoints) -> None:
    """Give the target what it lacks: torrents, then jobs and runs in the order of their recording; each batch is read back.

    Raises:
        NotCopied: something did not come back as it was given.
    """
    names = comparison.missing_torrents
    for place, name in enumerate(names):
        turn("copying torrents", place, len(names))
        _copy_torrent(source, target, name)
        failpoints.hit("migrate.torrent")
    ids = comparison.missing
    for start in range(0, len(ids), BATCH):
        turn("copying", comparison.equal + start, comparison.jobs)
        _copy_jobs(source, target, ids[start : start + BATCH])
        failpoints.hit("migrate.jobs")
    turn("copying", comparison.equal + len(ids), comparison.jobs)
    target.set_limits(comparison.missing_limits)
    for engine, drain in comparison.missing_drains.items():
        target.drain(engine, drain)
    runs = comparison.missing_runs
    for start in range(0, len(runs), BATCH):
        turn("copying runs", start, len(runs))
        target.keep_runs(runs[start : start + BATCH])
        failpoints.hit("migrate.runs")


def _copy_torrent(source: JobStore, target: JobStore, name: str) -> None:
    document = source.torrents([name]).get(name)
    if document is None or target.keep_torrent(document) != name or target.torrents([name]).get(name) != document:
        raise NotCopied(f"torrent {name} did not arrive as it is in the source")


def _copy_jobs(source: JobStore, target: JobStore, ids: Sequence[str]) -> None:
    found = source.get(ids)
    target.insert([found[id] for id in ids if id in found])
    there = target.get(ids)
    wrong = [f"job {id}" for id in ids if id not in found or id not in there or not alike(found[id], there[id])]
    if wrong:
        raise NotCopied(f"these did not arrive as they are in the source: {named(wrong)}")
