"""Every way to fail that aria2 tells apart, each by a real server that misbehaves so, and what Haul makes of it.

A case names the row of Haul's table that has to fit (`worker.engines.aria2.faults`, `worker.jobs.retries.STATUSES`), and aria2
itself is asked for its code. Rows without a case are in `SHOWN_BY` and `NEVER`; docs/failures.md is written from all three.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.contract.aria2 import Aria2Http
from tests.contract.engine_suite import http_order, submitted, until_status
from tests.contract.torrent_suite import torrent_order
from tests.egress.lab import missing as missing_namespaces
from tests.misbehaviour import breaking_off, ftp_that_says, untrusted
from tests.origin import Origin, content
from tests.servers import aria2c_programs, missing
from tests.torrents import pack
from worker.cli.servers import free_port
from worker.engines.aria2 import faults, orders
from worker.engines.aria2.rpc import Refusal
from worker.jobs.errors import Transient
from worker.jobs.model import Source, SourceKind
from worker.jobs.retries import STATUSES, answered
from worker.jobs.states import Cause
from worker.ports import Fault, ItemStatus, Order

#: A row of a table: a code, a part of a text, one of a text with the code of FTP, or a status.
Row = tuple[str, int | str]
METALINK = '<?xml version="1.0" encoding="UTF-8"?><metalink xmlns="urn:ietf:params:xml:ns:metalink">{0}</metalink>'
FILE = "<file name='{0}'><size>{3}</size>{2}<url>{1}</url></file>"
#: A torrent as a file of a metalink.
LINKED = "<file name='{0}'><metaurl mediatype='torrent'>{1}</metaurl></file>"


@dataclass(frozen=True)
class Case:
    """A source, aria2's code for it, and the row that fits."""

    name: str
    path: str
    code: int
    row: Row
    kind: SourceKind = SourceKind.HTTP


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
    Case("a connection that is reset", "/reset/x", 1, ("text", "Connection reset")),
    Case("a secure connection that breaks off", "{breaking}", 1, ("text", "Failed to receive")),
    Case("an address that no connection can be made to", "http://255.255.255.255/x", 1, ("text", "Failed to connect")),
    Case("a header that is none", "/header/x?line=no%20colon", 1, ("text", "HTTP header")),
    Case("a length that is none", "/header/x?line=Content-Length:%20some", 1, ("text", "must be positive integer")),
    Case("a chunk that is none", "/header/x?line=Transfer-Encoding:%20chunked", 1, ("text", "Bad chunk size")),
    Case("an unknown transfer encoding", "/header/x?line=Transfer-Encoding:%20odd", 1, ("text", "Transfer encoding")),
    Case("a redirect to a kind that nobody knows", "/status/302?location=gopher://127.0.0.1/x", 1, ("text", "may not be a valid URI")),
    Case("a command of FTP that is refused", "{ftp_refuses}", 21, ("code", 21), SourceKind.FTP),
    Case("a login of FTP that is refused", "{ftp_login}", 21, ("ftp", "status=530"), SourceKind.FTP),
    Case("an FTP server that is full", "{ftp_full}", 21, ("ftp", "Connection failed"), SourceKind.FTP),
    Case("a second connection of FTP that is refused", "{ftp_second}", 21, ("ftp", "Failed to establish connection"), SourceKind.FTP),
    Case("a second connection of FTP that is refused again and again", "{ftp_hello}", 21, ("ftp", "No URI available"), SourceKind.FTP),
    Case("a directory of FTP that is not there", "{ftp_nowhere}", 4, ("code", 4), SourceKind.FTP),
    Case("a metalink whose checksum is wrong", "{wrong}", 32, ("code", 32), SourceKind.METALINK),
    Case("a metalink of two torrents with one name", "{torrents}", 11, ("code", 11), SourceKind.METALINK),
    Case("a metalink with a file for a directory", "{below}", 18, ("code", 18), SourceKind.METALINK),
    Case("a metalink with a directory for a file", "{above}", 15, ("code", 15), SourceKind.METALINK),
]
HERE, ROWS = "`tests/contract/test_aria2_failures.py`", "`tests/contract/test_aria2_rows.py`"
#: Rows that other tests show, with a real aria2 too.
SHOWN_BY: Mapping[Row, str] = {
    ("code", 5): "`tests/faults/test_failures.py`, by an aria2 whose owner set a lowest speed: Haul sets none",
    ("code", 9): "`tests/faults/test_disk.py`",
    ("code", 10): f"{HERE}, a metalink that says another length of pieces the next time",
    ("code", 12): "`tests/contract/torrent_suite.py`",
    ("code", 13): f"{ROWS}, healed",
    ("code", 16): ROWS,
    ("code", 17): "`tests/faults/test_failures.py`, a file longer than its disk takes",
    ("text", "Failed to establish connection"): f"{HERE}, a router that knows no way: this or the next, as the system tells it",
    ("text", "Network problem"): f"{HERE}, a router that knows no way",
    ("text", "Bencode"): f"{HERE}, past the adapter: it reads a `.torrent` file before aria2 does",
    ("text", "torrent metainfo"): f"{HERE}, past the adapter: it reads a `.torrent` file before aria2 does",
    ("text", "processing the option"): f"{HERE}, an aria2 that does not know a value of ours",
    ("text", "No URI to download"): f"{ROWS}, row 3",
    ("text", "Download aborted"): f"{HERE}, a file that shrank",
}
#: Rows that no download of Haul's has, and why; what can be tried of that is tried here.
NEVER: Mapping[Row, str] = {
    ("code", 6): "in aria2's manual and nowhere in its program, up to 1.37",
    ("code", 7): "aria2 says it of what it has when it ends, and has ended before it can be asked",
    ("code", 14): "Haul lets no file be renamed",
    ("code", 20): "a link that leads to a broken metalink is complete for aria2, and found by its content",
    ("code", 25): "a link that leads to a broken torrent is complete for aria2; what Haul hands over is refused in words",
    ("code", 26): "as code 25",
    ("code", 27): "aria2 refuses a magnet link in words, before it is a download",
    ("code", 28): "aria2 refuses an option in words, before it is a download",
    ("code", 29): "aria2 never says it without a status",
    ("code", 30): "in aria2's manual and nowhere in its program, up to 1.37",
    ("text", "Failed to send"): "the system takes a request before it knows that nobody reads it: the answer fails",
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
    return faults.REST_REFUSED if kind == "rest" else dict(faults.FTP_TEXT if kind == "ftp" else faults.BY_TEXT)[str(key)]


def rows() -> list[Row]:
    """Every row there is."""
    codes = [("code", code) for code in sorted({*faults.BY_CODE, *faults.OF_STATUS})]
    texts = [*(("ftp", text) for text, _ in faults.FTP_TEXT), *(("text", text) for text, _ in faults.BY_TEXT)]
    return [*codes, ("rest", ""), *texts, *(("status", status) for status in STATUSES)]


@contextmanager
def misbehaving(directory: Path) -> Iterator[dict[str, str]]:
    """Servers of their own, by name."""
    with ExitStack() as stack:
        ftp = {
            "ftp_refuses": ftp_that_says(TYPE="500 what?"),
            "ftp_login": ftp_that_says(PASS="530 who are you?"),
            "ftp_full": ftp_that_says(hello="421 come later"),
            "ftp_second": ftp_that_says(SIZE="502 what?"),
            "ftp_hello": ftp_that_says(),
            "ftp_nowhere": ftp_that_says(CWD="550 no such directory"),
        }
        found = {name: stack.enter_context(server) for name, server in ftp.items()}
        yield {**found, "breaking": stack.enter_context(breaking_off(directory / "breaking.pem"))}


def metalinks(origin: Origin) -> dict[str, str]:
    """Addresses of metalinks that cannot end well, by name."""
    hashed = FILE.format("x", origin.url("file/hashed?size=1000"), f'<hash type="sha-256">{"0" * 64}</hash>', 1000)
    one, other = (FILE.format(name, origin.url(f"file/{name}?size={size}"), "", size) for name, size in (("a", 300_000), ("a/b", 1000)))
    torrents = []
    for seed in (1, 2):  # the first is at work while the second begins
        web_seed = origin.url(f"/with/seed={seed}&rate=60000/file/same{seed}")
        made = pack({"": content(100_000, seed)}, name="same", single=True, web_seeds=(web_seed,))
        torrents.append(LINKED.format("same", origin.document(f"same{seed}.torrent", made.document)))
    texts = {"wrong": hashed, "torrents": "".join(torrents), "below": one + other, "above": other + one}
    return {name: origin.document(f"{name}.meta4", METALINK.format(text).encode()) for name, text in texts.items()}


def given(harness: Aria2Http, transfer: str, uri: str, kind: SourceKind, attempt: int = 1) -> Order:
    """An order for an address of any kind."""
    return replace(http_order(harness, transfer, attempt), source=Source(kind, uri))


@pytest.fixture(scope="module", autouse=True)
def table(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aria2Http]:
    """One aria2 that gets every failing order at once, for some take seconds to fail; its patience is shorter than in earnest."""
    program = aria2c_programs()["system"] or aria2c_programs()["wheel"]
    if program is None:
        missing("aria2c", "apt install aria2")
    base = tmp_path_factory.mktemp("table")
    patience = pytest.MonkeyPatch()
    with misbehaving(base) as special, untrusted(base) as tls:
        patience.setattr(orders, "OPTIONS", {**orders.OPTIONS, "timeout": "2"})
        patience.setenv("SSL_CERT_FILE", str(base / "breaking.pem"))
        table = Aria2Http(program, tmp_path_factory.mktemp("aria2"), origin)
        special |= {"port": str(free_port()), "tls": tls, "https": origin.url("file/x").replace("http:", "https:"), **metalinks(origin)}
        asked = []
        for number, case in enumerate(CASES):
            uri = case.path if case.path.startswith("/") else case.path.format(**special)
            asked.append(given(table, f"failing{number}", origin.url(uri) if uri.startswith("/") else uri, case.kind))
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
    assert not shown & {*SHOWN_BY, *NEVER}
    assert not SHOWN_BY.keys() & NEVER.keys()
    assert set(rows()) - shown == {*SHOWN_BY, *NEVER}
    assert all(Path(text.split("`")[1]).is_file() for text in SHOWN_BY.values())


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


def test_a_metalink_that_says_another_length_of_pieces_the_next_time_is_begun_anew(aria2: Aria2Http) -> None:
    source = aria2.url("/refuses/pieces?at=100000&status=403&size=300000").replace("&", "&amp;")

    def described(attempt: int, length: int) -> Order:
        pieces = [content(300_000)[at : at + length] for at in range(0, 300_000, length)]
        hashes = "".join(f"<hash>{hashlib.sha1(piece).hexdigest()}</hash>" for piece in pieces)
        text = f"<file name='x'><size>300000</size><pieces length='{length}' type='sha-1'>{hashes}</pieces><url>{source}</url></file>"
        uri = aria2.origin.document(f"pieces{attempt}.meta4", METALINK.format(text).encode())
        return given(aria2, "pieces", uri, SourceKind.METALINK, attempt)

    assert until_status(aria2, submitted(aria2, described(1, 16_384)), ItemStatus.FAILED).fault == faults.REST_REFUSED
    assert until_status(aria2, submitted(aria2, described(2, 32_768)), ItemStatus.FAILED).fault == faults.BY_CODE[10]


def test_a_metalink_that_names_one_torrent_twice_does_not_wait_for_itself(aria2: Aria2Http) -> None:
    made = pack({"": content(50_000, 1)}, name="it", single=True, web_seeds=(aria2.url("/with/size=50000&seed=1&rate=60000/file/it"),))
    uri = aria2.origin.document("it.torrent", made.document)
    text = LINKED.format("one", uri) + LINKED.format("two", f"{uri}?again")
    uri = aria2.origin.document("itself.meta4", METALINK.format(text).encode())
    handle = submitted(aria2, given(aria2, "itself", uri, SourceKind.METALINK))
    assert until_status(aria2, handle, ItemStatus.FAILED).fault == faults.TWICE


def test_a_router_that_knows_no_way_is_a_server_that_cannot_be_reached(tmp_path: Path) -> None:
    """In a network of its own, where a rule answers as such a router does."""
    if why := missing_namespaces():
        pytest.skip(why)
    rule = "table inet way { chain in { type filter hook input priority 0; ip daddr 127.0.0.2 reject with icmp host-unreachable; }; }"
    script = f"ip link set lo up && nft '{rule}' && exec {sys.executable} -m tests.contract.no_way {tmp_path} 127.0.0.2"
    done = subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["unreachable", "no connection to the server"]


# ---- rows that no download has -----------------------------------------------------------------------------


BROKEN: Mapping[bytes, str] = {
    b"<html>please log in</html>": "Bencode",
    b"d4:infod4:name1:xee": "torrent metainfo",
}


@pytest.mark.parametrize("document", BROKEN)
def test_a_torrent_that_aria2_would_refuse_never_gets_there_and_would_be_the_sources_fault(aria2: Aria2Http, document: bytes) -> None:
    said = aria2.call("aria2.addTorrent", base64.b64encode(document).decode(), [], {})
    assert isinstance(said, Refusal)
    assert BROKEN[document] in said.text
    assert faults.fault("1", said.text) == dict(faults.BY_TEXT)[BROKEN[document]]
    order = torrent_order(aria2.engine, "broken", document)
    (fault,) = aria2.engine.submit([order])
    assert fault is not None
    assert fault.cause is Cause.SOURCE
    assert BROKEN[document] not in fault.detail, "it is our own reading that says so"


@pytest.mark.parametrize(("name", "kind"), [("it.torrent", SourceKind.HTTP), ("it.meta4", SourceKind.METALINK)])
def test_what_a_link_leads_to_and_aria2_cannot_read_is_complete_for_aria2(aria2: Aria2Http, name: str, kind: SourceKind) -> None:
    uri = aria2.origin.document(name, b"<html>please log in</html>")
    handle = submitted(aria2, given(aria2, "unread", uri, kind))
    until_status(aria2, handle, ItemStatus.COMPLETE)


def test_an_option_that_aria2_does_not_know_is_refused_in_words(aria2: Aria2Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "OPTIONS", {**orders.OPTIONS, "max-tries": "many"})
    assert aria2.engine.submit([http_order(aria2, "option")]) == [faults.BY_CODE[28]]


def test_no_owner_of_an_aria2_can_make_it_rename_our_files_or_set_a_lowest_speed_through_haul(aria2: Aria2Http) -> None:
    aria2.call("aria2.changeGlobalOption", {"auto-file-renaming": "true"})
    handle = submitted(aria2, http_order(aria2, "renamed", path="/hang/x"))
    options = aria2.call("aria2.getOption", handle)
    assert (options["auto-file-renaming"], options["lowest-speed-limit"]) == ("false", "0")


def test_an_aria2_that_ends_tells_nobody_what_it_did_not_finish(aria2: Aria2Http) -> None:
    handle = submitted(aria2, http_order(aria2, "unfinished", rate=20_000))
    until_status(aria2, handle, ItemStatus.RUNNING)
    aria2.end()
    seen = set()
    with suppress(Transient):
        while True:
            seen |= {item.status for item in aria2.engine.poll().items.values()}
    assert seen <= {ItemStatus.RUNNING}


def test_no_status_is_told_with_a_code_alone() -> None:
    assert {case.row[0] for case in CASES if case.code == 29} == {"status"}


def test_no_fault_of_a_server_is_the_engines() -> None:
    """But where it tells aria2 to make files that no disk can have beside each other."""
    told = {"a metalink with a file for a directory", "a metalink with a directory for a file"}
    assert {case.name for case in CASES if fault_of(case.row).cause in (Cause.ENGINE, Cause.DISK)} == told
