"""An order as aria2 is told it: one call with its options. What aria2 would take and do wrong is refused here.

Measured on 1.36 and 1.37: a selection of files that a torrent does not have is "complete" at once with nothing fetched; a name
too long for the disk fails the whole torrent; of the second version of BitTorrent aria2 knows nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from worker.engines.aria2.files import damaged, fitting_names, name_max, short_name, unaccounted
from worker.engines.aria2.limits import LIMIT
from worker.engines.aria2.rpc import Call
from worker.jobs.errors import Rejected
from worker.jobs.model import SourceKind
from worker.jobs.states import Cause, Reason
from worker.jobs.torrents import Torrent, read_torrent
from worker.ports import Fault, Order

#: Bounds of one request. aria2 takes 2 MB unless told otherwise (`rpc-max-request-size`), and drops the connection beyond.
CHUNK_ORDERS, CHUNK_BYTES = 100, 1_000_000
#: Of a request, beside what is counted: its frame, the secret, the options of one order.
FRAME_BYTES = 2_000

#: Options of every download, beside the gid and the directory; nothing of a job reaches aria2 but through `Plan.call`.
#: A cut connection is continued within seconds and a dead link given up within a minute or two: retries belong to the job.
#: With `always-resume=false` a server that answers a range with something else makes aria2 1.36 and 1.37 abort (SIGABRT) with all
#: its downloads, and again after each start; so what cannot be resumed is an error, and the job begins anew by itself.
#: Nothing is allocated that is not written. A size that a server or a metalink invents is allocated at once by `falloc`, and where
#: it does not fit (ext4, measured) all that was free stays taken, by a file with nothing in it. What `falloc` is for does not
#: show: as fast, and in as few extents, with up to 16 connections, two files at once, or a torrent's pieces.
OPTIONS: Mapping[str, str] = {
    "continue": "true",
    "always-resume": "true",
    "auto-file-renaming": "false",
    "allow-overwrite": "false",
    "file-allocation": "none",
    "max-tries": "3",
    "retry-wait": "1",
    "connect-timeout": "6",
    "timeout": "20",
    "max-file-not-found": "1",
    "follow-torrent": "true",
    "follow-metalink": "true",
    "bt-save-metadata": "true",
    "content-disposition-default-utf8": "true",  # what servers send; as Latin-1 a name is garbled, or the header is ignored
}
#: Results aria2 keeps of ended downloads; ours are removed one by one, so only what others left can push them out.
RESULTS_KEPT = 10_000
#: Parts of one download that aria2 fetches at once unless told otherwise: from that many hosts, when each gives it one connection.
SPLIT = 5
CHECK = "check-integrity"
NAMES = "index-out"

Options = dict[str, str | list[str]]

_BT = frozenset({SourceKind.TORRENT, SourceKind.MAGNET})
_FIRST_VERSION = "urn:btih:"
_NO_V2 = Fault(Cause.UNSUPPORTED, False, "aria2 does not know the second version of BitTorrent", elsewhere=True)
_NOT_FETCHED = Fault(Cause.UNSUPPORTED, False, "aria2 was not given the .torrent file")
LATER = Fault(Cause.ENGINE, True, "aria2 is being given other torrents", wait=Reason.ENGINE)
OUTSIDE = Fault(Cause.SOURCE, False, "the torrent has no file of a number that was selected")


@dataclass(frozen=True, slots=True)
class Plan:
    """One order, looked through.

    Attributes:
        torrent: what its `.torrent` file says; None for other sources.
        names: names other than the torrent's, as `index-out` takes them.
    """

    gid: str
    order: Order
    torrent: Torrent | None = None
    names: list[str] = field(default_factory=list)

    @property
    def has_pieces(self) -> bool:
        """True when what lies on the disk can be checked piece by piece."""
        return self.order.source.kind in _BT

    @property
    def damaged(self) -> list[str]:
        """What lies in its directory and has to be healed before aria2 sees it."""
        return damaged(self.order.directory, has_pieces=self.has_pieces)

    @property
    def size(self) -> int:
        """Bytes it takes of a request, or a few more."""
        document = len(self.order.document or b"")
        return len(self.order.source.uri) + 8 * len(self.order.select) + 6 * sum(map(len, self.names)) + document * 4 // 3 + FRAME_BYTES

    def call(self, extra: Mapping[str, str | list[str]]) -> Call:
        """The call that adds it, with options that go before its own."""
        options = {**self._options(), **extra}
        if self.order.document is None:
            return "aria2.addUri", [[self.order.source.uri], options]
        return "aria2.addTorrent", [base64.b64encode(self.order.document).decode(), [], options]

    def _options(self) -> Options:
        order = self.order
        options: Options = {**OPTIONS, "gid": self.gid, "dir": order.directory, **_seeding(order)}
        if order.name:
            options["out"] = short_name(order.name, name_max(order.directory))
        if self.names:
            options[NAMES] = self.names
        if order.limit:
            options[LIMIT] = str(order.limit)
        if order.select:
            options["select-file"] = _ranges(order.select)
            if order.source.kind is SourceKind.MAGNET:
                options["pause-metadata"] = "true"  # until `submit` has looked whether the torrent has these files
        elif self.torrent is not None and self.torrent.files[-1].number > len(self.torrent.files):
            options["select-file"] = _ranges([file.number for file in self.torrent.files])  # all but the padding
        if self.has_pieces and unaccounted(order.directory):
            options[CHECK] = "true"
        return options


def session_options(slots: int, connections: int | None) -> dict[str, str]:
    """What an aria2 is told once after each start.

    Args:
        connections: of one download to one host; None leaves what it was started with.
    """
    per_host = {"max-connection-per-server": str(connections), "split": str(max(SPLIT, connections))} if connections else {}
    return {"max-concurrent-downloads": str(slots), "max-download-result": str(RESULTS_KEPT), **per_host}


def plan(order: Order, gid: str) -> Plan | Fault:
    """The order as aria2 will get it, or why it will not. `Order.category` means nothing to aria2."""
    if order.source.kind is SourceKind.MAGNET and _FIRST_VERSION not in order.source.uri.lower():
        return _NO_V2
    if order.source.kind is not SourceKind.TORRENT:
        return Plan(gid, order)
    if order.document is None:
        return _NOT_FETCHED
    try:
        torrent = read_torrent(order.document)
    except Rejected as error:
        return Fault(Cause.SOURCE, False, f"the torrent {error.detail}")
    if torrent.v1 is None:
        return _NO_V2
    if not set(order.select) <= {file.number for file in torrent.files}:
        return OUTSIDE
    return Plan(gid, order, torrent, fitting_names(torrent.files, order.directory))


def chunks(plans: Sequence[Plan]) -> Iterator[list[Plan]]:
    """The plans in parts that fit a request; one that is larger stands alone."""
    chunk: list[Plan] = []
    size = 0
    for planned in plans:
        if chunk and (len(chunk) == CHUNK_ORDERS or size + planned.size > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(planned)
        size += planned.size
    if chunk:
        yield chunk


def _seeding(order: Order) -> dict[str, str]:
    """Ratio and time, whichever is reached first; aria2 counts minutes, and seeds for ever without them."""
    if not order.seed_ratio:
        return {"seed-time": "0"}
    return {"seed-ratio": f"{order.seed_ratio:g}"} | ({"seed-time": f"{order.seed_time_s / 60:g}"} if order.seed_time_s else {})


def _ranges(numbers: Sequence[int]) -> str:
    """`1-3,7` for 1, 2, 3, 7: a selection of 100,000 files in a line that fits the request."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
