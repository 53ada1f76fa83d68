"""Every way to fail that aria2 tells apart, each by a real server that misbehaves so, and what Haul makes of it.

A case names the row of Haul's table that has to fit (`worker.engines.aria2.faults`, `worker.jobs.retries.STATUSES`), and aria2
itself is asked for its code. Rows without a case say why in `NOT_SHOWN`; docs/failures.md is written from both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.contract.aria2 import Aria2Http
from tests.contract.engine_suite import http_order, submitted, until_status
from tests.misbehaviour import untrusted
from tests.origin import Origin, content
from tests.servers import aria2c_programs, missing
from worker.cli.servers import free_port
from worker.engines.aria2 import faults, orders
from worker.jobs.model import Source, SourceKind
from worker.jobs.retries import STATUSES, answered
from worker.jobs.states import Cause
from worker.ports import Fault, ItemStatus

#: A row of a table: a code, a part of a text, or a status.
Row = tuple[str, int | str]
KINDS = {"metalink": SourceKind.METALINK}
METALINK = """<?xml version="1.0" encoding="UTF-8"?>
<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="x"><size>1000</size>
<hash type="sha-256">{0}</hash><url>{1}</url></file></metalink>
"""


@dataclass(frozen=True)
class Case:
    """A source, aria2's code for it, and the row that fits."""

    name: str
    path: str
    code: int
    row: Row


CASES = [
    *(
        Case(f"status {n}", f"/status/{n}", 24 if n == 401 else 29 if n in (502, 503, 504) else 22, ("status", n))
        for n in STATUSES
        if n not in (401, 404)
    ),
    Case("status 401", "/status/401", 24, ("code", 24)),
    Case("status 404", "/status/404", 4, ("code", 4)),
    Case("status 400", "/status/400", 22, ("status", 400)),
    Case("status 501", "/status/501", 22, ("status", 501)),
    Case("a status without a file", "/status/204", 22, ("code", 22)),
    Case("a redirect to nowhere", "/status/301", 22, ("code", 22)),
    Case("a wrong password", "/auth/x?user=u&password=p", 24, ("code", 24)),
    Case("too many redirects", "/redirect/25/file/x", 23, ("code", 23)),
    Case("a circle of redirects", "/loop/x", 23, ("code", 23)),
    Case("a redirect to an unknown host", "/status/302?location=http://no-such-host.invalid/x", 19, ("code", 19)),
    Case("an unknown host", "http://no-such-host.invalid/x", 19, ("code", 19)),
    Case("a host that refuses connections", "http://127.0.0.1:{port}/x", 1, ("text", "Connection refused")),
    Case("a certificate that nobody signed", "{tls}", 1, ("text", "SSL/TLS handshake failure")),
    Case("https where http is spoken", "{https}", 1, ("text", "SSL/TLS handshake failure")),
    Case("a server that never answers", "/hang/x", 2, ("code", 2)),
    Case("a server that hangs up", "/nothing/x", 1, ("text", "EOF")),
    Case("a server that answers with something else", "/garbage/x", 1, ("text", "Bad status code")),
    Case("a connection that is cut again and again", "/cut/x?at=0&times=99", 1, ("text", "No URI available")),
    Case("404 in the middle", "/refuses/gone?at=50000&status=404", 3, ("code", 3)),
    Case("the rest is refused", "/refuses/rest?at=50000&status=416", 22, ("rest", "")),
    Case("a server that knows no ranges", "/whole/x?at=50000", 8, ("code", 8)),
    Case("a server that answers with another range", "/shifted/x?at=50000", 8, ("code", 8)),
    Case("a metalink whose checksum is wrong", "metalink", 32, ("code", 32)),
]
#: Rows that no server of the tests can bring about, or that other tests show.
NOT_SHOWN: Mapping[Row, str] = {
    ("code", 5): "aria2 is given no lowest speed",
    ("code", 6): "the manual's; the network of a test does not fail so",
    ("code", 7): "the manual's; only an aria2 that ends says so",
    ("code", 9): "`tests/faults/test_disk.py`",
    ("code", 10): "the manual's; a work directory belongs to one transfer",
    ("code", 11): "the manual's; a work directory belongs to one transfer",
    ("code", 12): "`tests/contract/torrent_suite.py`",
    ("code", 13): "`tests/contract/test_aria2_rows.py`, healed",
    ("code", 14): "the manual's; files are not renamed",
    ("code", 15): "the manual's",
    ("code", 16): "`tests/contract/test_aria2_rows.py`",
    ("code", 17): "the manual's; the disk of a test does not break",
    ("code", 18): "the manual's; the directory is made before",
    ("code", 20): "the manual's; a link that leads to no metalink is found when it is complete",
    ("code", 21): "the manual's",
    ("code", 25): "the manual's; a `.torrent` file is read before aria2 sees it",
    ("code", 26): "the manual's; a `.torrent` file is read before aria2 sees it",
    ("code", 27): "the manual's; a magnet link is read before aria2 sees it",
    ("code", 28): "the manual's; options are the same for all",
    ("code", 29): "its text has a status so far",
    ("code", 30): "the manual's; requests are made by a library",
    ("text", "Failed to establish connection"): "no route to a host; the network of a test has all there are",
    ("text", "Connection reset"): "the system's word; a reset ends as one of the others so far",
    ("text", "Failed to receive"): "the library's word; a cut ends as one of the others so far",
    ("text", "Failed to send"): "the library's word; a cut ends as one of the others so far",
    ("text", "Timeout"): "of refused calls; a download has code 2",
    ("text", "HTTP header"): "the library's word",
    ("text", "Bencode"): "`tests/unit/test_aria2_faults.py`; a `.torrent` file is read before aria2 sees it",
    ("text", "torrent metainfo"): "`tests/unit/test_aria2_faults.py`; a `.torrent` file is read before aria2 sees it",
    ("text", "No URI to download"): "`tests/contract/test_aria2_rows.py`, row 3",
    ("text", "unrecognized URI"): "doors refuse such addresses",
    ("text", "Download aborted"): "`tests/contract/test_aria2_failures.py`, a file that shrank",
    ("status", 401): "aria2 has a code of its own, 24",
    ("status", 404): "aria2 has codes of its own, 3 and 4",
}


def fault_of(row: Row) -> Fault:
    """What Haul's tables have in a row."""
    kind, key = row
    if kind == "status":
        said = answered(int(key))
        return Fault(said.cause, said.passing, said.text, anew=said.anew)
    if kind == "code":
        return {**faults.BY_CODE, **faults.OF_STATUS}[int(key)]
    return faults.REST_REFUSED if kind == "rest" else dict(faults.BY_TEXT)[str(key)]


def rows() -> list[Row]:
    """Every row there is."""
    codes = [("code", code) for code in sorted({*faults.BY_CODE, *faults.OF_STATUS})]
    return [*codes, ("rest", ""), *(("text", text) for text, _ in faults.BY_TEXT), *(("status", status) for status in STATUSES)]


@pytest.fixture(scope="module", autouse=True)
def table(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aria2Http]:
    """One aria2 that gets every failing order at once, for some take seconds to fail; its patience is shorter than in earnest."""
    program = aria2c_programs()["system"] or aria2c_programs()["wheel"]
    if program is None:
        missing("aria2c", "apt install aria2")
    base = tmp_path_factory.mktemp("table")
    wrong = origin.document("wrong.meta4", METALINK.format("0" * 64, origin.url("file/hashed?size=1000")).encode())
    patience = pytest.MonkeyPatch()
    with untrusted(base) as tls:
        patience.setattr(orders, "OPTIONS", {**orders.OPTIONS, "timeout": "2"})
        table = Aria2Http(program, tmp_path_factory.mktemp("aria2"), origin)
        special = {"port": str(free_port()), "tls": tls, "https": origin.url("file/x").replace("http:", "https:")}
        asked = []
        for number, case in enumerate(CASES):
            order = http_order(table, f"failing{number}", path=None if case.path == "metalink" else case.path)
            uri = wrong if case.path == "metalink" else case.path.format(**special)
            if not uri.startswith("/"):
                order = replace(order, source=Source(KINDS.get(case.path, SourceKind.HTTP), uri))
            asked.append(order)
        assert set(table.engine.submit(asked)) == {None}
        yield table
        table.close()
    patience.undo()


@pytest.mark.parametrize(("number", "case"), list(enumerate(CASES)), ids=[case.name for case in CASES])
def test_row_16_each_way_to_fail_has_its_cause_and_what_follows(table: Aria2Http, number: int, case: Case) -> None:
    handle = table.engine.handle(f"failing{number}", 1)
    item = until_status(table, handle, ItemStatus.FAILED)
    chain = table.engine._walk(handle, table.engine._deadline())
    assert case.code in {int(row["errorCode"]) for row in chain if row["status"] == "error"}
    assert item.fault == fault_of(case.row)


def test_every_row_of_the_tables_is_shown_or_says_why_not() -> None:
    shown = {case.row for case in CASES}
    assert set(rows()) - shown == set(NOT_SHOWN)


def test_aria2_tells_nobody_how_long_a_server_wants_to_be_left_alone(table: Aria2Http) -> None:
    order = http_order(table, "after", path="/status/503?after=2971")
    handle = submitted(table, order)
    until_status(table, handle, ItemStatus.FAILED)
    methods = ("tellStatus", "getUris", "getFiles", "getServers", "getOption")
    told = [table.call(f"aria2.{method}", handle) for method in methods]
    said = json.dumps([answer if isinstance(answer, dict | list) else str(answer) for answer in told])
    assert order.source.uri in said
    assert "2971" not in said.replace(order.source.uri, "")


@pytest.mark.parametrize("path", ["/whole/{0}?at=50000&seed=7", "/shifted/{0}?at=50000"])
def test_a_server_that_answers_ranges_wrongly_does_not_end_aria2_however_often_it_is_asked(aria2: Aria2Http, path: str) -> None:
    """With `always-resume=false` this aborted aria2 1.36 at the second attempt, and 1.37 at the third."""
    for attempt in (1, 2, 3):
        order = http_order(aria2, "wrong", attempt, path=path.format("wrong"))
        handle = submitted(aria2, order)
        assert until_status(aria2, handle, ItemStatus.FAILED).fault == faults.BY_CODE[8]
    fresh = http_order(aria2, "wrong-1", 4, path=path.format("wrong"))
    handle = submitted(aria2, fresh)
    until_status(aria2, handle, ItemStatus.COMPLETE) if "whole" in path else until_status(aria2, handle, ItemStatus.RUNNING)


def test_a_file_that_shrank_is_begun_anew(aria2: Aria2Http) -> None:
    path = "/shrunk/x?at=50000&to=30000&seed=7"
    first = submitted(aria2, http_order(aria2, "shrunk", path=path))
    assert until_status(aria2, first, ItemStatus.FAILED).fault == faults.REST_REFUSED
    second = submitted(aria2, http_order(aria2, "shrunk", 2, path=path))
    fault = until_status(aria2, second, ItemStatus.FAILED).fault
    assert fault == dict(faults.BY_TEXT)["Download aborted"]
    assert fault.anew
    third = submitted(aria2, http_order(aria2, "shrunk-1", 3, path=path))
    until_status(aria2, third, ItemStatus.COMPLETE)
    assert Path(aria2.engine.files(third)[0].path).read_bytes() == content(30_000, 7)


@pytest.mark.parametrize("path", ["/short/x?at=50000&seed=7", "/cut/y?at=50000&seed=7"])
def test_a_server_that_sends_less_than_it_announced_is_asked_for_the_rest_by_aria2_itself(aria2: Aria2Http, path: str) -> None:
    handle = submitted(aria2, http_order(aria2, "less", path=path))
    until_status(aria2, handle, ItemStatus.COMPLETE)
    assert Path(aria2.engine.files(handle)[0].path).read_bytes() == content(100_000, 7)


def test_no_fault_of_a_server_is_the_engines() -> None:
    assert not [case.name for case in CASES if fault_of(case.row).cause in (Cause.ENGINE, Cause.DISK)]
