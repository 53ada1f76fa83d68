"""qBittorrent through its web API, 4.5 and later.

What rests on qBittorrent's behaviour and not on its manual is shown in `tests/contract/test_qbittorrent_rows.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from worker import logs
from worker.engines.deadline import Deadline
from worker.engines.qbittorrent import faults
from worker.engines.qbittorrent import files as qbittorrent_files
from worker.engines.qbittorrent import orders as qbittorrent_orders
from worker.engines.qbittorrent import rows as qbittorrent_rows
from worker.engines.qbittorrent.refusals import Refused
from worker.engines.qbittorrent.session import QbittorrentSession
from worker.engines.qbittorrent.view import QbittorrentView, Row, Seen
from worker.engines.volume import free_bytes, prepared
from worker.jobs.errors import Failed, Rejected
from worker.jobs.model import SourceKind
from worker.jobs.states import Cause
from worker.ports import Fault, Features, FoundFile, Order, Poll

#: Rounds of looking whether something came or went; both are shown at once, and a loaded machine may take longer.
ROUNDS, ROUND_PAUSE_S = 50, 0.04

log = logs.get(__name__)


class QbittorrentEngine:
    """One qBittorrent as `worker.ports.Engine`.

    What qBittorrent says of a state is up to its refresh interval old (1.5 s unless set otherwise), so `submit` waits until it
    shows what was resumed, within bounds; what was paused may be shown at work for so long.

    Args:
        url: of the web pages, without user and password.
        directory: the volume as both this process and qBittorrent see it.
        slots: downloads at once.
    """

    features = Features(kinds=frozenset({SourceKind.MAGNET, SourceKind.TORRENT}), selects_files=True, seeds=True, bittorrent_v2=True)

    def __init__(
        self, name: str, url: str, user: str, secret: str, directory: str, slots: int, rpc_timeout_s: float = 10.0, weight: int = 1
    ) -> None:
        self.name = name
        self.slots = slots
        self.weight = weight
        self.directory = directory
        self.rpc_timeout_s = rpc_timeout_s
        self._session = QbittorrentSession(name, url, user, secret)
        self._view = QbittorrentView(self._session)
        self._set_up_for: str | None = None
        self._version: str | None = None
        self._reasons: Mapping[str, Fault] = {}

    def handle(self, transfer: str, attempt: int) -> str:
        """A tag."""
        return qbittorrent_rows.tag(transfer, attempt)

    def submit(self, orders: Sequence[Order]) -> list[Fault | None]:
        """See `Engine.submit`."""
        deadline = self._deadline()
        answers = {self._tag(order): _refusal(order) or prepared(order.directory) for order in orders}
        wanted = {self._tag(order): order for order in orders if answers[self._tag(order)] is None}
        seen = self._view.look(deadline)
        answers.update(self._clear(wanted, seen, deadline))
        known = qbittorrent_rows.handles(seen.rows)
        new = {tag: order for tag, order in wanted.items() if answers[tag] is None and tag not in known}
        held = {tag for tag, order in wanted.items() if answers[tag] is None and qbittorrent_orders.held(order)}
        answers.update({tag: self._add(order, deadline, stopped=tag in held) for tag, order in new.items()})
        taken = {tag: order for tag, order in wanted.items() if answers[tag] is None}
        seen = self._look_until(lambda seen: taken.keys() <= qbittorrent_rows.handles(seen.rows).keys(), deadline)
        refused = {tag: order for tag, order in new.items() if answers[tag] is not None}
        answers.update({tag: self._settled(order, seen) for tag, order in refused.items()})
        answers.update(self._run(taken, held, held & set(new), seen, deadline))
        return [answers[self._tag(order)] for order in orders]

    def poll(self) -> Poll:
        """See `Engine.poll`."""
        deadline = self._deadline()
        seen = self._view.look(deadline)
        if seen.session != self._set_up_for:
            self._set_up(deadline)
            self._version = f"qBittorrent {str(self._session.call(deadline, 'program_version')).strip().removeprefix('v')}"
            self._set_up_for = seen.session
        self._reasons = self._explained(seen.rows, deadline)
        found = qbittorrent_rows.items(seen.rows, self.directory, self.name, self._reasons)
        return Poll(seen.session, found, free_bytes(self.directory), seen.speed, self._version)

    def pause(self, handles: Sequence[str]) -> None:
        """See `Engine.pause`."""
        deadline = self._deadline()
        keys = self._keys(handles, self._view.look(deadline))
        if keys:
            self._session.call(deadline, "torrents_stop", torrent_hashes=keys)

    def remove(self, handles: Sequence[str]) -> list[str]:
        """See `Engine.remove`."""
        deadline = self._deadline()
        return self._remove(handles, self._view.look(deadline), deadline)

    def throttle(self, limit: int | None) -> int | None:
        """See `Engine.throttle`. While its slow mode is on, that is the one that is changed, for it is the one in force."""
        deadline = self._deadline()
        self._session.call(deadline, "transfer_set_download_limit", limit=limit or 0)
        return int(self._session.call(deadline, "transfer_download_limit")) or None

    def limit(self, limits: Mapping[str, int | None]) -> dict[str, int | None]:
        """See `Engine.limit`; a request for each different limit, and one for all that are there now."""
        deadline = self._deadline()
        known = qbittorrent_rows.handles(self._view.look(deadline).rows)
        keys = {handle: known[handle] for handle in limits if handle in known}
        for limit in dict.fromkeys(limits[handle] for handle in keys):
            some = [key for handle, key in keys.items() if limits[handle] == limit]
            self._session.call(deadline, "torrents_set_download_limit", limit=limit or 0, torrent_hashes=some)
        shown = self._session.call(deadline, "torrents_download_limit", torrent_hashes=list(keys.values())) if keys else {}
        return {handle: max(0, shown[key]) or None for handle, key in keys.items() if key in shown}

    def files(self, handle: str) -> list[FoundFile]:
        """See `Engine.files`."""
        deadline = self._deadline()
        row = next(iter(self._session.call(deadline, "torrents_info", tag=handle)), None)
        if row is None or not qbittorrent_rows.complete(row):
            raise Failed(Cause.INCOMPLETE, f"engine {self.name} does not show {handle} complete")
        return qbittorrent_files.found_files(row["save_path"], self._session.call(deadline, "torrents_files", torrent_hash=row["hash"]))

    def close(self) -> None:
        """See `Engine.close`."""
        self._session.close()

    # ---- submitting ----

    def _clear(self, wanted: Mapping[str, Order], seen: Seen, deadline: Deadline) -> dict[str, Fault | None]:
        """Remove what is there of earlier attempts; a fault for each order whose directory is not free."""
        directories = {order.directory.rstrip("/"): tag for tag, order in wanted.items()}
        earlier = {
            handle: directories[place]
            for handle, key in qbittorrent_rows.handles(seen.rows).items()
            if (place := seen.rows[key]["save_path"].rstrip("/")) in directories and handle != directories[place]
        }
        gone = self._remove(list(earlier), seen, deadline) if earlier else []
        return {tag: faults.NOT_STOPPED for handle, tag in earlier.items() if handle not in gone}

    def _add(self, order: Order, deadline: Deadline, *, stopped: bool) -> Fault | None:
        """Give it to qBittorrent, which says no in the same way to what it cannot read and to what it has already."""
        try:
            parameters = qbittorrent_orders.parameters(order, self._tag(order), stopped=stopped)
            answer = self._session.call(deadline, "torrents_add", **parameters)
        except Refused:
            return faults.NOT_READ
        return None if qbittorrent_orders.accepted(answer) else faults.NOT_READ

    def _run(
        self, orders: Mapping[str, Order], held: Collection[str], added_so: Collection[str], seen: Seen, deadline: Deadline
    ) -> dict[str, Fault | None]:
        """Start those that stand still, with their files arranged first, and see them go; a fault for each that cannot run.

        Args:
            held: tags of those whose files have to be arranged.
            added_so: those of them that were just added stopped; their states do not show it yet.
        """
        keys = qbittorrent_rows.handles(seen.rows)
        answers: dict[str, Fault | None] = {tag: faults.NOT_SHOWN for tag in orders if tag not in keys}
        still = {tag: seen.rows[keys[tag]] for tag in orders if tag in keys and (tag in added_so or _stands(seen.rows[keys[tag]]))}
        for tag, row in still.items():
            if (orders[tag].select or tag in held) and qbittorrent_rows.described(row):
                answers[tag] = self._arrange(orders[tag], keys[tag], deadline)
        impossible = [tag for tag in still if answers.get(tag) is faults.NO_SUCH_FILE]
        self._remove(impossible, seen, deadline)
        if broken := [keys[tag] for tag, row in still.items() if qbittorrent_rows.broken(row)]:
            self._session.call(deadline, "torrents_recheck", torrent_hashes=broken)
        if start := {keys[tag] for tag in still if answers.get(tag) is None}:
            self._session.call(deadline, "torrents_start", torrent_hashes=start)
            self._look_until(lambda seen: not any(_stands(seen.rows[key]) for key in start & seen.rows.keys()), deadline)
        return answers

    def _arrange(self, order: Order, key: str, deadline: Deadline) -> Fault | None:
        """Let it fetch the selected files alone, each with a name of its own."""
        try:
            files = self._session.call(deadline, "torrents_files", torrent_hash=key)
            if order.select:
                document = order.document or self._session.call(deadline, "torrents_export", torrent_hash=key)
                wanted = qbittorrent_files.wanted(document, order.select)
                if wanted is None:
                    return faults.NO_SUCH_FILE
                for priority, numbers in qbittorrent_files.reprioritised(files, wanted).items():
                    self._session.call(deadline, "torrents_file_priority", torrent_hash=key, file_ids=numbers, priority=priority)
            while double := qbittorrent_files.double(files):
                self._session.call(deadline, "torrents_rename_file", torrent_hash=key, old_path=double[0], new_path=double[1])
                files = self._renamed(key, double[1], deadline)
        except Rejected:
            return faults.NOT_READ
        except Refused:  # its hash changed, or it went away, since we looked
            return faults.NOT_SHOWN
        return None

    def _renamed(self, key: str, path: str, deadline: Deadline) -> list[Row]:
        """The files once one has this path, which takes a moment."""
        while True:
            files: list[Row] = self._session.call(deadline, "torrents_files", torrent_hash=key)
            if any(file["name"] == path for file in files):
                return files
            time.sleep(ROUND_PAUSE_S)

    def _settled(self, order: Order, seen: Seen) -> Fault | None:
        """What it means that qBittorrent refused an order: it cannot read it, or has its torrent already."""
        names = qbittorrent_orders.infohashes(order)
        key = next((key for key, row in seen.rows.items() if names & qbittorrent_rows.infohashes(key, row)), None)
        if key is None:
            return faults.NOT_READ
        tag = qbittorrent_rows.handle(key, seen.rows[key])
        if tag == self._tag(order):
            return None
        return faults.BY_HAND if tag == key else faults.DUPLICATE

    # ---- the rest ----

    def _remove(self, handles: Sequence[str], seen: Seen, deadline: Deadline) -> list[str]:
        keys = self._keys(handles, seen)
        for _ in range(ROUNDS):
            if not keys:
                break
            self._session.call(deadline, "torrents_delete", delete_files=False, torrent_hashes=keys)
            seen = self._view.look(deadline)
            keys = self._keys(handles, seen)
            if keys:
                time.sleep(ROUND_PAUSE_S)
        left = qbittorrent_rows.handles(seen.rows)
        return [handle for handle in handles if handle not in left]

    def _look_until(self, true: Callable[[Seen], bool], deadline: Deadline) -> Seen:
        """The first look of which it is true, or the last one there is time for."""
        seen = self._view.look(deadline)
        for _ in range(ROUNDS):
            if true(seen):
                break
            time.sleep(ROUND_PAUSE_S)
            seen = self._view.look(deadline)
        return seen

    def _set_up(self, deadline: Deadline) -> None:
        """Make our slots the only bound, and let no limit of seeding delete anything."""
        ours = {
            "queueing_enabled": True,
            "max_active_downloads": self.slots,
            "max_active_torrents": -1,
            "max_active_uploads": -1,
            "max_ratio_act": 0,
        }
        theirs = self._session.call(deadline, "app_preferences")
        changes = {name: value for name, value in ours.items() if theirs.get(name) != value}
        if changes:
            self._session.call(deadline, "app_set_preferences", prefs=changes)
            log.info("preferences of qBittorrent are changed", engine=self.name, **changes)

    def _explained(self, rows: Mapping[str, Row], deadline: Deadline) -> dict[str, Fault]:
        """Why rows in the state `error` are; the log is asked only when there is a new one."""
        broken = {key: row for key, row in rows.items() if row["state"] == qbittorrent_rows.ERROR}
        if broken.keys() <= self._reasons.keys():
            return {key: self._reasons[key] for key in broken}
        lines = self._session.call(deadline, "log_main", normal=False, info=False)
        free = free_bytes(self.directory)
        return {key: self._reasons.get(key) or faults.reason(row["save_path"], lines, free) for key, row in broken.items()}

    def _keys(self, handles: Iterable[str], seen: Seen) -> list[str]:
        known = qbittorrent_rows.handles(seen.rows)
        return [known[handle] for handle in handles if handle in known]

    def _tag(self, order: Order) -> str:
        return self.handle(order.transfer, order.attempt)

    def _deadline(self) -> Deadline:
        return Deadline(self.rpc_timeout_s)


def _refusal(order: Order) -> Fault | None:
    """Why qBittorrent is not even asked."""
    if not qbittorrent_orders.addable(order):
        return faults.NO_DOCUMENT
    return None if qbittorrent_orders.readable(order) else faults.NOT_READ


def _stands(row: Row) -> bool:
    """True when it does not go on by itself, and should."""
    return qbittorrent_rows.stopped(row) or qbittorrent_rows.broken(row)
