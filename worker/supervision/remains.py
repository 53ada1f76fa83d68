"""Work directories that outlived their use: whoever was to delete them died, or their engine wrote once more behind them."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from worker import logs
from worker.jobs.directories import WORK, delete_work_directory, is_spent, work_directory
from worker.jobs.states import State
from worker.jobs.transfer import is_of, maker
from worker.ports import Services
from worker.supervision.corrections import Action, Corrections
from worker.supervision.lease import Fenced

#: Directories at one look; the next look goes on behind them.
LOOK_MAX = 500

log = logs.get(__name__)


class Remains:
    """Of one engine. The records say what is of no use any more; what no record tells of is left alone."""

    def __init__(self, services: Services, engine: Fenced, corrections: Corrections) -> None:
        self._services = services
        self._engine = engine
        self._corrections = corrections
        self._after = ""
        self._stuck: str | None = None

    def clear(self, busy: Collection[str | None]) -> None:
        """Delete what is of no use.

        Args:
            busy: transfers that the engine still has, whose files are left to it.

        Raises:
            LeaseLost: the lease may end before this does; nothing is deleted.
        """
        spent = [work_directory(self._engine.directory, name, self._engine.name) for name in self._spent(busy)]
        if spent:
            self._engine.require()  # under another owner one of them may have been asked for again since it was read
        for directory in spent:
            delete_work_directory(directory)
        stuck = [directory for directory in spent if os.path.lexists(directory)]
        self._corrections.made(Action.DELETE, len(spent) - len(stuck))
        if stuck and stuck[0] != self._stuck:
            log.warning("what is of no use cannot be deleted", engine=self._engine.name, directories=len(stuck), first=stuck[0])
        self._stuck = stuck[0] if stuck else None

    def _spent(self, busy: Collection[str | None]) -> list[str]:
        """Transfers that no job holds or waits for, and whose maker's record says that it has let go of them; or that went elsewhere."""
        store, names = self._services.store, [name for name in self._next() if name not in busy]
        makers = store.get({maker(name) for name in names})
        holders = [(job.transfer, job.state) for job in store.holding(names) if job.transfer is not None] if names else []
        here = {transfer.id for transfer, _ in holders if transfer.engine == self._engine.name}
        elsewhere = {transfer.id for transfer, state in holders if state is not State.QUEUED} - here
        known = [name for name in names if (job := makers.get(maker(name))) is not None and (is_spent(job) or job.handed)]
        held = {transfer.id for transfer, _ in holders}
        followed = {job.following for job in store.following(known, LOOK_MAX)} if known else set()
        return [name for name in names if name in elsewhere or (name in known and name not in held and name not in followed)]

    def _next(self) -> list[str]:
        home = Path(self._engine.directory, WORK)
        try:
            mine = self._services.settings.installation
            names = sorted(name for name in os.listdir(home) if name > self._after and is_of(name, mine))
        except FileNotFoundError:
            return []
        self._after = names[LOOK_MAX - 1] if len(names) > LOOK_MAX else ""
        return [name for name in names[:LOOK_MAX] if Path(home, name, self._engine.name).is_dir()]
