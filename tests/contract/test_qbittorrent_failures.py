"""Ways to fail of torrents, by real servers that misbehave so: qBittorrent itself gives nothing up, so Haul's clocks do.

`SHOWN` says what qBittorrent shows for each row of its table, and which test brings it about; docs/failures.md is written from it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.contract.engine_suite import submitted, until, until_status
from tests.contract.qbittorrent import QbittorrentHarness
from tests.contract.torrent_suite import torrent_order
from tests.disk_errors import on_a_broken_disk
from tests.origin import Origin, content
from tests.servers import missing
from tests.torrents import pack
from worker.cli.servers import free_port
from worker.cli.servers.qbittorrent import find_qbittorrent
from worker.engines.deadline import Deadline
from worker.engines.qbittorrent import engine, faults
from worker.jobs.model import Source, SourceKind
from worker.jobs.states import Cause, Phase, State
from worker.ports import Fault, ItemStatus, Order, Poll
from worker.supervision.diff import Patience, Watched, diff

ROWS, SUITE, HERE = (f"`tests/contract/{name}.py`" for name in ("test_qbittorrent_rows", "torrent_suite", "test_qbittorrent_failures"))
BROKEN = f"{HERE}, on a disk that says so"
#: Rows of the table by their names there, or the words of the log: what qBittorrent shows, and the proof.
SHOWN: Mapping[str, tuple[str, str]] = {
    "FULL": ("error, and no line of its log, on a full volume", "`tests/faults/test_disk.py`"),
    "UNKNOWN": ("error, and nothing that is known in its log", BROKEN),
    "MISSING": ("missingFiles", f"{ROWS}, row 11"),
    "NO_DOCUMENT": ("(is not asked)", SUITE),
    "NOT_READ": ("“Fails.”, or a refusal, for what it cannot read", SUITE),
    "NO_SUCH_FILE": ("no file with a selected number", SUITE),
    "NOT_SHOWN": ("“Ok.”, and no torrent", f"{HERE}, an order that gets lost"),
    "NOT_STOPPED": ("the torrent after it was deleted", f"{HERE}, an order that gets lost"),
    "BY_HAND": ("“Fails.” for a torrent without our tag", f"{ROWS}, row 4"),
    "DUPLICATE": ("“Fails.” for a torrent of another job", SUITE),
    "No space left": ("", f"`tests/faults/test_disk.py`; {BROKEN}"),
    "Disk quota exceeded": ("", BROKEN),
    "File too large": ("", BROKEN),
    "File name too long": ("", BROKEN),
    "Read-only file system": ("", f"`tests/faults/test_disk.py`; {BROKEN}"),
    "Permission denied": ("", BROKEN),
    "Not a directory": ("", BROKEN),
    "Is a directory": ("", f"{ROWS}, row 9; {BROKEN}"),
    "Input/output error": ("", BROKEN),
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


def test_each_error_of_the_disk_has_its_cause_and_words(tmp_path: Path, origin: Origin) -> None:
    """The words are those of the C library for each error, and ENXIO is one that has no row."""
    program = find_qbittorrent()
    if program is None:
        missing("qbittorrent-nox", "apt install qbittorrent-nox")
    errors = {words: next(number for number in errno.errorcode if words in os.strerror(number)) for words, _ in faults.BY_TEXT}
    expected = {errors[words]: fault for words, fault in faults.BY_TEXT} | {errno.ENXIO: faults.UNKNOWN}
    with closing(QbittorrentHarness(on_a_broken_disk(program, tmp_path), program, tmp_path, origin)) as harness:
        handles = {}
        for number in expected:
            made = harness.pack({"": content(1000, number)}, name=f"error-{number}.bin", single=True)
            handles[number] = submitted(harness, torrent_order(harness.engine, f"disk{number}", made.document))
        for number, fault in expected.items():
            assert until_status(harness, handles[number], ItemStatus.FAILED).fault == fault, os.strerror(number)


def deaf(harness: QbittorrentHarness, method: str, answer: str | None, patch: pytest.MonkeyPatch) -> None:
    """Orders of one kind get lost on the way, and are answered as if they had not."""
    passed = harness.engine._session.call

    def call(deadline: Deadline, name: str, **arguments: Any) -> Any:
        return answer if name == method else passed(deadline, name, **arguments)

    patch.setattr(harness.engine._session, "call", call)
    patch.setattr(engine, "ROUNDS", 3)


def test_a_torrent_that_was_taken_and_is_not_shown_is_the_engines_fault(
    qbittorrent: QbittorrentHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf(qbittorrent, "torrents_add", "Ok.", monkeypatch)
    assert qbittorrent.engine.submit([qbittorrent.order("lost")]) == [faults.NOT_SHOWN]


def test_an_attempt_waits_for_the_one_before_it_to_be_gone(qbittorrent: QbittorrentHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted(qbittorrent, qbittorrent.order("again", rate=20_000))
    with monkeypatch.context() as patch:
        deaf(qbittorrent, "torrents_delete", None, patch)
        assert qbittorrent.engine.submit([qbittorrent.order("again", 2, rate=20_000)]) == [faults.NOT_STOPPED]
    assert qbittorrent.engine.submit([qbittorrent.order("again", 2, rate=20_000)]) == [None]


def test_every_row_of_the_table_says_what_shows_it() -> None:
    named = {name for name, value in vars(faults).items() if isinstance(value, Fault)} - {"NO_SPACE"}
    assert named <= SHOWN.keys(), "each fault has a row"
    assert SHOWN.keys() == named | {words for words, _ in faults.BY_TEXT}
    assert all(Path(text.split("`")[1]).is_file() for _, text in SHOWN.values())
