"""aria2 through JSON-RPC.

What rests on aria2's behaviour and not on its manual is shown in `tests/contract/test_aria2_rows.py`.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from worker.engines.aria2_faults import fault
from worker.engines.aria2_files import damaged, found_files, name_max, short_name
from worker.engines.aria2_rows import CHAIN_KEYS, IN_THE_WAY, LINKS_MAX, POLL_KEYS, Row, chains, curable, items, leaves
from worker.engines.aria2_rpc import Aria2Rpc, Call, Deadline, Refusal
from worker.jobs.errors import Failed, Transient
from worker.jobs.model import SourceKind
from worker.jobs.states import Cause
from worker.ports import Fault, Features, FoundFile, ItemStatus, Order, Poll

#: Rows of one list in one answer; a full page asks for the next one.
PAGE_ROWS = 10_000
#: Results aria2 keeps of ended downloads; ours are removed one by one, so only what others left can push them out.
RESULTS_KEPT = 10_000
#: Bounds of one request; aria2 takes 2 MB unless told otherwise, and drops the connection beyond.
CHUNK_ORDERS, CHUNK_BYTES = 100, 1_000_000
#: Rounds of asking and removing: a download that is stopped takes a few milliseconds to become a result.
REMOVE_ROUNDS, REMOVE_PAUSE_S = 20, 0.02

#: Options of every download, beside the gid and the directory; nothing of a job reaches aria2 but through `_options`.
#: A cut connection is continued within seconds and a dead link given up within a minute or two: retries belong to the job.
OPTIONS: Mapping[str, str] = {
    "continue": "true",
    "always-resume": "false",
    "max-resume-failure-tries": "0",
    "auto-file-renaming": "false",
    "allow-overwrite": "false",
    "file-allocation": "falloc",
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
_SEED_NOT: Mapping[str, str] = {"seed-time": "0"}
CHECK = "check-integrity"
_ENDED = frozenset({"complete", "error", "removed"})


class Aria2Engine:
    """One aria2 as `worker.ports.Engine`.

    Args:
        url: of the RPC, without the secret.
        directory: the volume as both this process and aria2 see it.
        slots: downloads at once.
    """

    features = Features(kinds=frozenset(SourceKind), selects_files=True, seeds=True)

    def __init__(self, name: str, url: str, secret: str, directory: str, slots: int, rpc_timeout_s: float = 10.0) -> None:
        self.name = name
        self.slots = slots
        self.directory = directory
        self.rpc_timeout_s = rpc_timeout_s
        self._rpc = Aria2Rpc(name, url, secret, rpc_timeout_s)
        self._session: str | None = None

    def handle(self, transfer: str, attempt: int) -> str:
        """A gid: 16 hexadecimal digits, never all zero, which aria2 refuses."""
        digest = hashlib.sha256(f"{transfer}:{attempt}".encode()).hexdigest()[:16]
        return digest if digest.strip("0") else "1".rjust(16, "0")

    def submit(self, orders: Sequence[Order]) -> list[Fault | None]:
        """See `Engine.submit`."""
        deadline = self._deadline()
        answers: dict[str, Fault | None] = {}
        for chunk in _chunks(orders):
            answers.update(self._submit(chunk, deadline))
        return [answers[self._gid(order)] for order in orders]

    def poll(self) -> Poll:
        """See `Engine.poll`."""
        deadline = self._deadline()
        rows, (stat, session) = self._rows(POLL_KEYS, deadline, ("aria2.getGlobalStat", []), ("aria2.getSessionInfo", []))
        if session["sessionId"] != self._session:
            limits = {"max-concurrent-downloads": str(self.slots), "max-download-result": str(RESULTS_KEPT)}
            self._rpc.multicall([("aria2.changeGlobalOption", [limits])], deadline)
            self._session = session["sessionId"]
        found = items(rows, self.directory, self.name)
        return Poll(session["sessionId"], found, _free_bytes(self.directory), int(stat["downloadSpeed"]))

    def pause(self, handles: Sequence[str]) -> None:
        """See `Engine.pause`."""
        deadline = self._deadline()
        self._act("aria2.forcePause", ("active", "waiting"), self._chains_of(handles, deadline).values(), deadline)

    def remove(self, handles: Sequence[str]) -> list[str]:
        """See `Engine.remove`."""
        return self._remove(handles, self._deadline())

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

    def _submit(self, orders: Sequence[Order], deadline: Deadline) -> dict[str, Fault | None]:
        answers: dict[str, Fault | None] = {self._gid(order): _prepared(order) for order in orders}
        wanted = [order for order in orders if answers[self._gid(order)] is None]
        # Only what may be there needs a look: an earlier attempt, or files that have to be healed before aria2 sees them.
        if any(order.attempt > 1 or damaged(order.directory) for order in wanted):
            busy = self._clear(wanted, deadline)
            answers.update(busy)
            wanted = [order for order in wanted if self._gid(order) not in busy]
        answers.update(self._add([(order, {}) for order in wanted], deadline))
        refused = [order for order in wanted if answers[self._gid(order)] is not None]
        if refused:
            answers.update(self._settle(refused, answers, deadline))
        return answers

    def _add(self, orders: Sequence[tuple[Order, dict[str, str]]], deadline: Deadline) -> dict[str, Fault | None]:
        """Add each order, with options that go before its own; what aria2 said to each."""
        if not orders:
            return {}
        calls = [("aria2.addUri", [[order.source.uri], {**self._options(order), **extra}]) for order, extra in orders]
        results = self._rpc.multicall(calls, deadline)
        return {
            self._gid(order): fault("1", result.text) if isinstance(result, Refusal) else None
            for (order, _), result in zip(orders, results, strict=True)
        }

    def _options(self, order: Order) -> dict[str, str]:
        options = {**OPTIONS, "gid": self._gid(order), "dir": order.directory}
        options |= {"seed-ratio": f"{order.seed_ratio:g}"} if order.seed_ratio else _SEED_NOT
        if order.name:
            options["out"] = short_name(order.name, name_max(order.directory))
        if order.select:
            options["select-file"] = _ranges(order.select)
        return options

    def _clear(self, orders: Sequence[Order], deadline: Deadline) -> dict[str, Fault | None]:
        """Make the orders' directories fit to be used; a fault for each that is not yet."""
        known = self._chains(deadline)
        directories = {order.directory: self._gid(order) for order in orders}
        earlier = {root: chain[0]["dir"] for root, chain in known.items() if directories.get(chain[0]["dir"], root) != root}
        gone = self._remove(list(earlier), deadline) if earlier else []
        busy = {directories[path] for root, path in earlier.items() if root not in gone}
        for order in orders:
            if self._gid(order) not in known and self._gid(order) not in busy:
                for path in damaged(order.directory):
                    os.unlink(path)
        return {gid: Fault(Cause.ENGINE, True, "an earlier attempt is still being removed") for gid in busy}

    def _settle(self, orders: Sequence[Order], answers: dict[str, Fault | None], deadline: Deadline) -> dict[str, Fault | None]:
        """Decide about orders that aria2 refused: its text is the same for "known" and for "malformed", so it is asked.

        What is there is adopted, and unpaused; what failed there is added again.
        """
        known = self._chains_of([self._gid(order) for order in orders], deadline)
        again: list[tuple[Order, dict[str, str]]] = []
        settled: dict[str, Fault | None] = {}
        for order in orders:
            gid = self._gid(order)
            if gid not in known:
                settled[gid] = answers[gid]
            elif not _dead(known[gid]):
                settled[gid] = None
            elif isinstance(cure := self._cure(order, known[gid], deadline), Fault):
                settled[gid] = cure
            else:
                again.append((order, cure))
        self._act("aria2.unpause", ("paused",), [known[gid] for gid, answer in settled.items() if answer is None], deadline)
        # What is hopeless is removed too, or the next start of aria2 would run it again from its session.
        self._remove([gid for gid in known if _dead(known[gid])], deadline)
        return {**settled, **self._add(again, deadline)}

    def _cure(self, order: Order, chain: Sequence[Row], deadline: Deadline) -> dict[str, str] | Fault:
        """The options with which a download that failed because of its file succeeds, or its fault when there are none."""
        row = next((row for row in leaves(chain) if curable(row)), None)
        if row is None:
            return {}
        final = fault(row["errorCode"], "")
        files, options = self._rpc.multicall([("aria2.getFiles", [row["gid"]]), ("aria2.getOption", [row["gid"]])], deadline)
        if isinstance(files, Refusal) or isinstance(options, Refusal) or not files:
            return final
        in_the_way = row["errorCode"] == IN_THE_WAY
        if row.get("following"):  # a payload that is on the disk already: its pieces are checked instead
            return {CHECK: "true"} if in_the_way and options.get(CHECK) != "true" else final
        path = files[0]["path"]
        name = os.path.basename(path)
        fits = short_name(name, name_max(order.directory))
        if fits != name:
            return {"out": fits}
        if in_the_way and os.path.dirname(path) == order.directory and os.path.isfile(path):
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

    def _gid(self, order: Order) -> str:
        return self.handle(order.transfer, order.attempt)

    def _deadline(self) -> Deadline:
        return Deadline(self.rpc_timeout_s)


def _dead(chain: Sequence[Row]) -> bool:
    """True when nothing of it can go on: it failed, was removed, or its payload is gone."""
    rows = leaves(chain)
    live = any(row["status"] in ("active", "waiting", "paused") for row in rows)
    return not live and (not rows or any(row["status"] in ("error", "removed") for row in rows))


def _prepared(order: Order) -> Fault | None:
    """Make the order's directory, for aria2 may run where it cannot."""
    try:
        os.makedirs(order.directory, exist_ok=True)
    except OSError as error:
        return Fault(Cause.DISK, False, f"the work directory cannot be made: {error.strerror}", elsewhere=True)
    return None


def _chunks(orders: Sequence[Order]) -> Iterator[list[Order]]:
    chunk: list[Order] = []
    size = 0
    for order in orders:
        need = len(order.source.uri) + 8 * len(order.select) + 1_000
        if chunk and (len(chunk) == CHUNK_ORDERS or size + need > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(order)
        size += need
    if chunk:
        yield chunk


def _ranges(numbers: Sequence[int]) -> str:
    """`1-3,7` for 1, 2, 3, 7: a selection of 100,000 files in a line that fits the request."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _free_bytes(directory: str) -> int | None:
    try:
        volume = os.statvfs(directory)
    except OSError:
        return None
    return volume.f_bavail * volume.f_frsize
