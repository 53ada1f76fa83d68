"""Ways to fail of torrents, by real servers that misbehave so: qBittorrent itself gives nothing up, so Haul's clocks do.

`SHOWN` says what qBittorrent shows for each row of its table, and which test brings it about; docs/failures.md is written from it.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.contract.engine_suite import submitted, until
from tests.contract.qbittorrent import QbittorrentHarness
from tests.contract.torrent_suite import torrent_order
from tests.origin import content
from tests.torrents import pack
from worker.cli.servers import free_port
from worker.engines.qbittorrent import faults
from worker.jobs.model import Source, SourceKind
from worker.jobs.states import Cause, Phase, State
from worker.ports import Fault, ItemStatus, Order, Poll
from worker.supervision.diff import Patience, Watched, diff

ROWS, UNIT = "`tests/contract/test_qbittorrent_rows.py`", "`tests/unit/test_qbittorrent_rows.py`"
#: Rows of the table by their names there, or the words of the log: what qBittorrent shows, and the proof.
SHOWN: Mapping[str, tuple[str, str]] = {
    "FULL": ("error, and no line of its log, on a full volume", f"{UNIT}; `tests/faults/test_disk.py`"),
    "UNKNOWN": ("error, and nothing that is known in its log", UNIT),
    "MISSING": ("missingFiles", f"{ROWS}, row 11"),
    "NO_DOCUMENT": ("(is not asked)", "`tests/contract/torrent_suite.py`"),
    "NOT_READ": ("“Fails.”, or a refusal, for what it cannot read", "`tests/contract/torrent_suite.py`"),
    "NO_SUCH_FILE": ("no file with a selected number", "`tests/contract/torrent_suite.py`"),
    "NOT_SHOWN": ("“Ok.”, and no torrent", "(it shows what it took)"),
    "NOT_STOPPED": ("the torrent after it was deleted", "(it takes milliseconds)"),
    "BY_HAND": ("“Fails.” for a torrent without our tag", f"{ROWS}, row 4"),
    "DUPLICATE": ("“Fails.” for a torrent of another job", "`tests/contract/torrent_suite.py`"),
    "No space left": ("", "`tests/faults/test_disk.py`"),
    "Is a directory": ("", f"{ROWS}, row 9"),
    "Read-only file system": ("", "`tests/faults/test_disk.py`"),
}
IMPATIENT = Patience(stalled_s=1.0, stall_s=5.0, metadata_s=3.0)


def given_up(poll: Poll, handle: str, phase: Phase) -> Fault:
    """What Haul makes of an item that has been so for six seconds."""
    known = Watched("job", State.DOWNLOADING, phase, doing=phase)
    return diff({handle: known}, poll.items, 6.0, IMPATIENT).dead[handle]


def dead_ends(harness: QbittorrentHarness) -> dict[str, Order]:
    """Torrents that get nowhere, by what their only web seed or tracker does."""
    origin = harness.origin
    ways = {
        name: origin.url(f"with/seed=7/{path}") for name, path in (("gone", "status/404"), ("busy", "status/503"), ("silent", "hang/x"))
    }
    ways["refused"] = f"http://127.0.0.1:{free_port()}/x"
    orders = {}
    for number, (name, seed) in enumerate(ways.items()):
        made = pack({"": content(100_000, number)}, name=f"{name}.bin", single=True, web_seeds=(seed,))
        orders[name] = torrent_order(harness.engine, name, made.document)
    return orders


def test_a_torrent_whose_sources_are_dead_stands_still_until_haul_gives_it_up(qbittorrent: QbittorrentHarness) -> None:
    orders = dead_ends(qbittorrent)
    assert qbittorrent.engine.submit([*orders.values()]) == [None] * len(orders)
    handles = {name: qbittorrent.engine.handle(order.transfer, 1) for name, order in orders.items()}

    def all_stand(poll: Poll) -> bool:
        shown = [poll.items[handle] for handle in handles.values() if handle in poll.items]
        return len(shown) == len(handles) and all(item.phase is Phase.TRANSFER for item in shown)

    poll = until(qbittorrent, all_stand)
    for name, handle in handles.items():
        item = poll.items[handle]
        assert (item.status, item.fault, item.progress.done) == (ItemStatus.RUNNING, None, 0), name
        fault = given_up(poll, handle, Phase.TRANSFER)
        assert (fault.cause, fault.passing, fault.elsewhere) == (Cause.STALLED, True, True)
        assert fault.detail.startswith("not a byte came for 5 s")


def test_a_magnet_link_that_nobody_knows_asks_for_its_description_until_haul_gives_it_up(qbittorrent: QbittorrentHarness) -> None:
    source = Source(SourceKind.MAGNET, "magnet:?xt=urn:btih:" + "ab" * 20)
    handle = submitted(qbittorrent, Order("nobody", 1, source, f"{qbittorrent.downloads}/.haul/nobody/qbittorrent"))
    poll = until(qbittorrent, lambda poll: handle in poll.items and poll.items[handle].phase is Phase.METADATA)
    fault = given_up(poll, handle, Phase.METADATA)
    assert (fault.cause, fault.passing, fault.elsewhere) == (Cause.METADATA, True, True)
    assert fault.detail == "no peer sent the description of the torrent for 3 s"


def test_every_row_of_the_table_says_what_shows_it() -> None:
    named = {name for name, value in vars(faults).items() if isinstance(value, Fault)} - {"NO_SPACE"}
    assert named <= SHOWN.keys(), "each fault has a row"
    assert SHOWN.keys() <= named | {words for words, _ in faults.BY_TEXT}
