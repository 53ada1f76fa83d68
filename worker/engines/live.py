"""The engines of a process whose file of engines may change while it runs: looked at again every 2 s, whenever somebody asks for one.

Whatever is wrong with a change leaves the engines as they were, is logged once, and is shown as `fault`. An engine that is not in the
file any more is kept, and given nothing new, until nothing runs there.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker import logs
from worker.engines.file import FILE_BYTES_MAX, VARIABLE, Defaults, open_to_all, parse
from worker.engines.registry import Address, connect
from worker.jobs.errors import Transient
from worker.jobs.states import HELD
from worker.ports import Engine, JobStore
from worker.settings import SettingsError

#: So long after a change everybody that works goes by it.
LOOK_EVERY_S = 2.0
#: An engine is kept at least so long after it was taken out, for other processes may not have read the file yet.
KEPT_S = 10.0
#: Whoever took an engine from the pool may use it for so long after another one came in its place.
CLOSED_AFTER_S = 60.0

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class _State:
    """What is in force; replaced as a whole, so that nobody sees half a change."""

    engines: Mapping[str, Engine]
    addresses: Mapping[str, Address]
    leaving: Mapping[str, float]
    gone: Mapping[str, Engine]


class LiveEngines(Mapping[str, Engine]):
    """Implements `ports.Pool`, too; one a process, for all its threads.

    An engine that left is found by its name for as long as the process runs, though it is not among the others any more: nobody
    that read its name a moment before meets a name without an engine.
    """

    def __init__(self, path: Path, defaults: Defaults, store: JobStore, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path, self._defaults, self._store, self._monotonic = path, defaults, store, monotonic
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._seen: object = None
        self._state = _State({}, {}, {}, {})
        self._retired: list[tuple[float, Engine]] = []
        self._fault: str | None = None
        self._look()

    @property
    def fault(self) -> str | None:
        """See `ports.Pool`."""
        self._fresh()
        return self._fault

    @property
    def leaving(self) -> frozenset[str]:
        """See `ports.Pool`."""
        return frozenset(self._fresh().leaving)

    def __getitem__(self, name: str) -> Engine:
        state = self._fresh()
        return state.engines[name] if name in state.engines else state.gone[name]

    def __contains__(self, name: object) -> bool:
        return name in self._fresh().engines

    def __iter__(self) -> Iterator[str]:
        return iter(self._fresh().engines)

    def __len__(self) -> int:
        return len(self._fresh().engines)

    def former(self) -> Sequence[Engine]:
        """See `ports.Pool`."""
        return (*self._state.gone.values(), *(engine for _, engine in self._retired))

    # ---- looking -------------------------------------------------------------------------------------------------

    def _fresh(self) -> _State:
        """Of several threads one looks, and the others do not wait for it."""
        if self._monotonic() - self._looked_at >= LOOK_EVERY_S and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looked_at = self._monotonic()
                self._lock.release()
        return self._state

    def _look(self) -> None:
        self._read()
        self._drop_empty()
        now = self._monotonic()
        for _, engine in [entry for entry in self._retired if now - entry[0] >= CLOSED_AFTER_S]:
            engine.close()
        self._retired = [entry for entry in self._retired if now - entry[0] < CLOSED_AFTER_S]

    def _read(self) -> None:
        """Read the file when it is another one than last time."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                seen = (status.st_mtime_ns, status.st_size, status.st_ino)
                if seen == self._seen and self._fault is None:
                    return
                found = parse(self._path, file.read(FILE_BYTES_MAX + 1), self._defaults)
            first, self._seen = self._seen is None, seen
            self._follow(found, quiet=first)
            self._note(None)
            if remark := open_to_all(self._path, status, found.values()) if not first else None:
                log.warning(remark)
        except OSError as error:
            self._note(f"{VARIABLE}: cannot read {self._path}: {error.strerror}")
        except SettingsError as wrong:
            self._note(str(wrong))

    def _follow(self, found: Mapping[str, Address], *, quiet: bool) -> None:
        """Go over to these engines; those that are as they were stay connected."""
        old, now = self._state, self._monotonic()
        same = {name for name, address in found.items() if name in old.engines and old.addresses.get(name) == address}
        engines = {name: old.engines[name] if name in same else connect(address) for name, address in found.items()}
        left = {name: old.leaving.get(name, now) for name in old.engines if name not in found}
        self._retired += [(now, old.engines[name]) for name in found if name in old.engines and name not in same]
        addresses = {**found, **{name: old.addresses[name] for name in left}}
        kept = {**engines, **{name: old.engines[name] for name in left}}
        self._state = _State(kept, addresses, left, {name: engine for name, engine in old.gone.items() if name not in kept})
        for what, names in (("new", found.keys() - old.engines.keys()), ("changed", found.keys() & old.engines.keys() - same)):
            if names and not quiet:
                log.info(f"{what} engines", engines=sorted(names))
        if fresh := sorted(left.keys() - old.leaving.keys()):
            log.info("engines are not in the file any more; they are given nothing new, and go when nothing runs there", engines=fresh)

    def _drop_empty(self) -> None:
        """Let those engines go that left and have nothing to do any more."""
        state, now = self._state, self._monotonic()
        due = [name for name, since in state.leaving.items() if now - since >= KEPT_S]
        if not due:
            return
        try:
            held = self._store.engine_states()
        except Transient as error:
            log.info("whether an engine may go cannot be said now", error=str(error))
            return
        idle = [name for name in due if not HELD & held.get(name, {}).keys()]
        if idle:
            log.info("engines that left have nothing to do any more", engines=idle)
            self._retired += [(now, state.engines[name]) for name in idle]
            engines = {name: engine for name, engine in state.engines.items() if name not in idle}
            leaving = {name: since for name, since in state.leaving.items() if name not in idle}
            gone = {**state.gone, **{name: state.engines[name] for name in idle}}
            self._state = _State(engines, state.addresses, leaving, gone)

    def _note(self, fault: str | None) -> None:
        if fault is None and self._fault:
            log.info("the engines can be read again", file=str(self._path))
        elif fault and fault != self._fault and self._state.engines:
            log.error("the engines cannot be read; those before stay in force", fault=fault)
        self._fault = fault
