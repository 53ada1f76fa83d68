"""aria2 through JSON-RPC.

What rests on aria2's behaviour and not on its manual is shown in `tests/contract/test_aria2_rows.py`.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from worker.engines.aria2.faults import MISREAD, fault
from worker.engines.aria2.files import found_files, heal, name_max, saved_names, short_name
from worker.engines.aria2.limits import TAKES, give, give_all
from worker.engines.aria2.orders import CHECK, CHUNK_BYTES, LATER, NAMES, OUTSIDE, Options, Plan, chunks, plan, session_options
from worker.engines.aria2.rows import CHAIN_KEYS, IN_THE_WAY, LINKS_MAX, POLL_KEYS, Row, chains, curable, dead, items, leaves
from worker.engines.aria2.rpc import Aria2Rpc, Call, Refusal
from worker.engines.deadline import Deadline
from worker.engines.volume import free_bytes, prepared
from worker.jobs.errors import Failed, Transient
from worker.jobs.model import SourceKind
from worker.jobs.states import Cause
from worker.ports import Fault, Features, FoundFile, ItemStatus, Order, Poll

#: Rows of one list in one answer; a full page asks for the next one.
PAGE_ROWS = 10_000
#: Bytes of a request aria2 takes unless told otherwise.
REQUEST_BYTES_DEFAULT = 2 * 1024 * 1024
#: Rounds of asking and removing: a download that is stopped takes a few milliseconds to become a result.
REMOVE_ROUNDS, REMOVE_PAUSE_S = 20, 0.02

#: aria2 makes every file of a torrent before it does anything else: 9 to 29 s for 10,000 to 40,000 on a loaded machine.
FILES_MAX = 5_000

_ENDED = frozenset({"complete", "error", "removed"})


class Aria2Engine:
    """One aria2 as `worker.ports.Engine`.

    It has to be started with `bt-detach-seed-only=true`, or what seeds takes slots, and with `rpc-max-request-size=32M`, or
    large torrents are refused; neither can be changed while it runs.

    Args:
        url: of the RPC, without the secret.
        directory: the volume as both this process and aria2 see it.
        slots: downloads at once.

    Attributes:
        connections: of one download to one host; None leaves what aria2 was started with.
    """

    connections: int | None = None
    features = Features(kinds=frozenset(SourceKind), selects_files=True, seeds=True, files_max=FILES_MAX, takes=TAKES)

    def __init__(self, name: str, url: str, secret: str, directory: str, slots: int, rpc_timeout_s: float = 10.0, weight: int = 1) -> None:
        self.name = name
        self.slots = slots
        self.weight = weight
        self.directory = directory
        self.rpc_timeout_s = rpc_timeout_s
        self._rpc = Aria2Rpc(name, url, secret, rpc_timeout_s)
        self._session: str | None = None
        self._version: str | None = None

    def handle(self, transfer: str, attempt: int) -> str:
        """A gid: 16 hexadecimal digits, never all zero, which aria2 refuses."""
        digest = hashlib.sha256(f"{transfer}:{attempt}".encode()).hexdigest()[:16]
        return digest if digest.strip("0") else "1".rjust(16, "0")

    def submit(self, orders: Sequence[Order]) -> list[Fault | None]:
        """See `Engine.submit`."""
        deadline = self._deadline()
        answers: dict[str, Fault | None] = {}
        plans: dict[str, Plan] = {}
        for order in orders:
            gid = self.handle(order.transfer, order.attempt)
            # A torrent of 100,000 files takes a second to read: what is too much for one call waits for the next.
            in_time = not plans or deadline.left_s > self.rpc_timeout_s / 2
            planned = plan(order, gid) if in_time else LATER
            if isinstance(planned, Plan):
                plans[gid] = planned
            else:
                answers[gid] = planned
        for chunk in chunks(list(plans.values())):
            answers.update(self._submit(chunk, deadline))
        return [answers[self.handle(order.transfer, order.attempt)] for order in orders]

    def poll(self) -> Poll:
        """See `Engine.poll`."""
        deadline = self._deadline()
        rows, (stat, session) = self._rows(POLL_KEYS, deadline, ("aria2.getGlobalStat", []), ("aria2.getSessionInfo", []))
        if session["sessionId"] != self._session:
            told: list[Call] = [("aria2.changeGlobalOption", [session_options(self.slots, self.connections)]), ("aria2.getVersion", [])]
            _, about = self._rpc.multicall(told, deadline)
            self._session, self._version = session["sessionId"], None if isinstance(about, Refusal) else f"aria2 {about['version']}"
        found = items(rows, self.directory, self.name)
        return Poll(session["sessionId"], found, free_bytes(self.directory), int(stat["downloadSpeed"]), self._version)

    def pause(self, handles: Sequence[str]) -> None:
        """See `Engine.pause`."""
        deadline = self._deadline()
        self._act("aria2.forcePause", ("active", "waiting"), self._chains_of(handles, deadline).values(), deadline)

    def remove(self, handles: Sequence[str]) -> list[str]:
        """See `Engine.remove`."""
        return self._remove(handles, self._deadline())

    def throttle(self, limit: int | None) -> int | None:
        """See `Engine.throttle`."""
        return give_all(self._rpc, limit, self._deadline())

    def limit(self, limits: Mapping[str, int | None]) -> dict[str, int | None]:
        """See `Engine.limit`."""
        deadline = self._deadline()
        return give(self._rpc, self._chains_of(list(limits), deadline), limits, deadline)

    def files(self, handle: str) -> list[FoundFile]:
        """See `Engine.files`. Also raises Failed with cause SOURCE for a torrent or metalink that is none."""
        chain = self._walk(handle, self._deadline())
        item = items(chain, self.directory, self.name).get(handle)
        if item is None or item.status is not ItemStatus.COMPLETE:
            raise Failed(Cause.INCOMPLETE, f"engine {self.name} does not show {handle} complete")
        return [file for row in leaves(chain) for file in found_files(row, seeding=item.seeding)]

    def close(self) -> None:
        """See `Engine.close`."""
        self._rpc.close()

    # ---- submitting ----

    def _submit(self, plans: Sequence[Plan], deadline: Deadline) -> dict[str, Fault | None]:
        answers: dict[str, Fault | None] = {planned.gid: prepared(planned.order.directory) for planned in plans}
        answers.update(self._oversized(plans, deadline))
        wanted = [planned for planned in plans if answers[planned.gid] is None]
        # Only what may be there needs a look: an earlier attempt, or files that have to be healed before aria2 sees them.
        if any(planned.order.attempt > 1 or planned.damaged for planned in wanted):
            busy = self._clear(wanted, deadline)
            answers.update(busy)
            wanted = [planned for planned in wanted if planned.gid not in busy]
        answers.update(self._add([(planned, {}) for planned in wanted], deadline))
        refused = [planned for planned in wanted if answers[planned.gid] is not None]
        if refused:
            answers.update(self._settle(refused, answers, deadline))
        answers.update(self._misread(wanted, deadline))
        return answers

    def _misread(self, plans: Sequence[Plan], deadline: Deadline) -> dict[str, Fault | None]:
        """A fault for each that aria2 took for another torrent; those are removed."""
        both = {planned.gid: planned.torrent.v1 for planned in plans if planned.torrent is not None and planned.torrent.v2}
        rows = self._rpc.multicall([("aria2.tellStatus", [gid, ["infoHash"]]) for gid in both], deadline) if both else []
        shown = {gid: row["infoHash"] for gid, row in zip(both, rows, strict=True) if not isinstance(row, Refusal)}
        misread = [gid for gid, infohash in shown.items() if infohash != both[gid]]
        self._remove(misread, deadline)
        return dict.fromkeys(misread, MISREAD)

    def _oversized(self, plans: Sequence[Plan], deadline: Deadline) -> dict[str, Fault | None]:
        """A fault for each that aria2 would answer by dropping the connection."""
        if sum(planned.size for planned in plans) <= CHUNK_BYTES:
            return {}
        (options,) = self._rpc.multicall([("aria2.getGlobalOption", [])], deadline)
        limit = REQUEST_BYTES_DEFAULT if isinstance(options, Refusal) else int(options.get("rpc-max-request-size", REQUEST_BYTES_DEFAULT))
        detail = f"aria2 takes requests of {limit} bytes at most: start it with rpc-max-request-size=32M"
        return {planned.gid: Fault(Cause.ENGINE, False, detail, elsewhere=True) for planned in plans if planned.size > limit}

    def _add(self, plans: Sequence[tuple[Plan, Options]], deadline: Deadline) -> dict[str, Fault | None]:
        """Add each, with options that go before its own; what aria2 said to each."""
        if not plans:
            return {}
        results = self._rpc.multicall([planned.call(extra) for planned, extra in plans], deadline)
        return {
            planned.gid: fault("1", result.text) if isinstance(result, Refusal) else None
            for (planned, _), result in zip(plans, results, strict=True)
        }

    def _clear(self, plans: Sequence[Plan], deadline: Deadline) -> dict[str, Fault | None]:
        """Make the directories fit to be used; a fault for each that is not yet."""
        known = self._chains(deadline)
        directories = {planned.order.directory: planned.gid for planned in plans}
        earlier = {root: chain[0]["dir"] for root, chain in known.items() if directories.get(chain[0]["dir"], root) != root}
        gone = self._remove(list(earlier), deadline) if earlier else []
        busy = {directories[path] for root, path in earlier.items() if root not in gone}
        for planned in plans:
            if planned.gid not in known and planned.gid not in busy:
                heal(planned.order.directory, has_pieces=planned.has_pieces)
        return {gid: Fault(Cause.ENGINE, True, "an earlier attempt is still being removed") for gid in busy}

    def _settle(self, plans: Sequence[Plan], answers: dict[str, Fault | None], deadline: Deadline) -> dict[str, Fault | None]:
        """Decide about orders that aria2 refused: its text is the same for "known" and for "malformed", so it is asked.

        What is there is adopted, and unpaused; what failed there is added again.
        """
        known = self._chains_of([planned.gid for planned in plans], deadline)
        again: list[tuple[Plan, Options]] = []
        settled: dict[str, Fault | None] = {}
        for planned in plans:
            gid = planned.gid
            if gid not in known:
                settled[gid] = answers[gid]
            elif not dead(known[gid]):
                settled[gid] = self._outside(planned, known[gid], deadline)
            elif isinstance(cure := self._cure(planned, known[gid], deadline), Fault):
                settled[gid] = cure
            else:
                again.append((planned, cure))
        self._act("aria2.unpause", ("paused",), [known[gid] for gid, answer in settled.items() if answer is None], deadline)
        # What is hopeless is removed too, or the next start of aria2 would run it again from its session.
        self._remove([gid for gid in known if dead(known[gid]) or settled.get(gid) is not None], deadline)
        for planned, _ in again:
            heal(planned.order.directory, has_pieces=planned.has_pieces)
        return {**settled, **self._add(again, deadline)}

    def _outside(self, planned: Plan, chain: Sequence[Row], deadline: Deadline) -> Fault | None:
        """The fault of a magnet link whose torrent has come and has not the files that were selected."""
        payload = next((row for row in chain if row.get("following") and row["status"] == "paused"), None)
        if payload is None or not planned.order.select or planned.order.source.kind is not SourceKind.MAGNET:
            return None
        (files,) = self._rpc.multicall([("aria2.getFiles", [payload["gid"]])], deadline)
        return OUTSIDE if not isinstance(files, Refusal) and max(planned.order.select) > len(files) else None

    def _cure(self, planned: Plan, chain: Sequence[Row], deadline: Deadline) -> Options | Fault:
        """The options with which a download that failed because of its file succeeds, or its fault when there are none."""
        row = next((row for row in leaves(chain) if curable(row)), None)
        if row is None:
            return {}
        final = fault(row["errorCode"], "")
        files, options = self._rpc.multicall([("aria2.getFiles", [row["gid"]]), ("aria2.getOption", [row["gid"]])], deadline)
        if isinstance(files, Refusal) or isinstance(options, Refusal) or not files:
            return final
        if planned.has_pieces or row.get("following"):
            return _cure_of_pieces(planned, row, options) or final
        in_the_way = row["errorCode"] == IN_THE_WAY
        path = files[0]["path"]
        name = os.path.basename(path)
        fits = short_name(name, name_max(planned.order.directory))
        if fits != name:
            return {"out": fits}
        if in_the_way and os.path.dirname(path) == planned.order.directory and os.path.isfile(path):
            os.unlink(path)  # of unknown length when it was cut, so it has no control file and cannot be continued
            return {}
        return final

    # ---- chains ----

    def _chains(self, deadline: Deadline) -> dict[str, list[Row]]:
        rows, _ = self._rows(CHAIN_KEYS, deadline)
        return chains(rows)

    def _chains_of(self, handles: Sequence[str], deadline: Deadline) -> dict[str, list[Row]]:
        known = self._chains(deadline) if handles else {}
        return {handle: known[handle] for handle in handles if handle in known}

    def _walk(self, handle: str, deadline: Deadline) -> list[Row]:
        """The chain from its root down, with its files; empty when aria2 does not know the root."""
        chain: list[Row] = []
        gids = [handle]
        for _ in range(LINKS_MAX):
            answers = self._rpc.multicall([("aria2.tellStatus", [gid, [*POLL_KEYS, "files"]]) for gid in gids], deadline)
            rows = [row for row in answers if not isinstance(row, Refusal)]
            chain += rows
            gids = [gid for row in rows for gid in row.get("followedBy", ())]
            if not gids:
                break
        return chain

    def _rows(self, keys: Sequence[str], deadline: Deadline, *more: Call) -> tuple[list[Row], list[Any]]:
        """Every row aria2 has, and the answers to other calls, in one request unless a list fills its page."""
        answers = self._rpc.multicall(
            [("aria2.tellActive", [keys]), ("aria2.tellWaiting", [0, PAGE_ROWS, keys]), ("aria2.tellStopped", [0, PAGE_ROWS, keys]), *more],
            deadline,
        )
        if refused := next((answer for answer in answers if isinstance(answer, Refusal)), None):
            raise Transient(f"engine {self.name}", f"aria2 refused to tell what it has: {refused.text}")
        active, waiting, stopped, *others = answers
        rows = [*active, *waiting, *stopped]
        for method, page in (("aria2.tellWaiting", waiting), ("aria2.tellStopped", stopped)):
            offset = PAGE_ROWS
            while len(page) == PAGE_ROWS:
                page = self._rpc.multicall([(method, [offset, PAGE_ROWS, keys])], deadline)[0]
                rows += page
                offset += PAGE_ROWS
        return rows, others

    def _act(self, method: str, statuses: Sequence[str], found: Iterable[Sequence[Row]], deadline: Deadline) -> None:
        """Call `method` for the rows in these statuses; aria2's "cannot be done now" means that it is already so."""
        calls = [(method, [row["gid"]]) for chain in found for row in chain if row["status"] in statuses]
        if calls:
            self._rpc.multicall(calls, deadline)

    def _remove(self, handles: Sequence[str], deadline: Deadline) -> list[str]:
        for _ in range(REMOVE_ROUNDS):
            found = self._chains_of(handles, deadline)
            if not found:
                return list(handles)
            rows = [row for chain in found.values() for row in chain]
            calls = [("aria2.forceRemove", [row["gid"]]) for row in rows if row["status"] not in _ENDED]
            ended = [row for row in rows if row["status"] in _ENDED]
            calls += [("aria2.removeDownloadResult", [row["gid"]]) for row in ended]
            self._rpc.multicall(calls, deadline)
            if len(ended) < len(rows):
                time.sleep(REMOVE_PAUSE_S)
        return [handle for handle in handles if handle not in self._chains_of(handles, deadline)]

    def _deadline(self) -> Deadline:
        return Deadline(self.rpc_timeout_s)


def _cure_of_pieces(planned: Plan, row: Row, options: Mapping[str, str]) -> Options:
    """What lies there is checked piece by piece; names that do not fit are known once a magnet link's torrent was saved."""
    if row["errorCode"] == IN_THE_WAY and options.get(CHECK) != "true":
        return {CHECK: "true"}
    names = [] if options.get(NAMES) else saved_names(planned.order.directory)
    return {NAMES: names, CHECK: "true"} if names else {}
