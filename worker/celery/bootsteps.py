"""What runs inside a Celery worker beside its tasks: a bound on its end, and the supervisor, beat and the API where they were asked for."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from celery import bootsteps
from celery.beat import EmbeddedService
from celery.platforms import EX_FAILURE, EX_OK
from celery.signals import worker_shutting_down
from celery.worker import state
from kombu.exceptions import OperationalError

from beat_schedule import CLOCK, EXPIRES_S
from worker import wiring
from worker.jobs.errors import Transient
from worker.limits import DRAIN_S
from worker.ports import Services
from worker.settings import SettingsError

#: A service is not there: the exit code that the command line has for it.
EX_UNREACHABLE = 3
#: A setting is wrong, or asks for what is not there.
EX_USAGE = 2

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Runs(Protocol):
    """Something with loops of its own inside a worker process."""

    def start(self) -> object:
        """Start; returns at once."""

    def stop(self) -> object:
        """Stop; returns when it has."""


class DrainStep(bootsteps.StartStopStep):
    """An end in bounded time, on every pool: SIGTERM or SIGINT drains, and the next one, or the clock, ends the process at once.

    Left alone, Celery waits for its tasks without a bound, or with REMAP_SIGTERM sleeps for a fixed time whenever one runs.
    Signals alone do it here, for a prefork parent must not have threads; the kernel ends a pool's processes with their parent.
    """

    def __init__(self, parent: Any, **options: Any) -> None:
        self._parent = parent
        super().__init__(parent, **options)

    def start(self, parent: Any) -> None:  # noqa: ARG002
        """Take the signals from Celery, which has just set handlers of its own."""
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                signal.signal(number, self._drain)

    def _drain(self, number: int, _frame: Any) -> None:
        _say(f"draining, for {DRAIN_S:g} s at most; a second signal stops at once")
        for each in (*STOPPING, signal.SIGALRM):
            signal.signal(each, _end_at_once)
        signal.setitimer(signal.ITIMER_REAL, DRAIN_S)
        state.should_stop = EX_OK  # type: ignore[assignment]
        if (supervisor := getattr(self._parent, "supervisor", None)) is not None:
            supervisor.retire()  # its leases go while tasks that run are waited for
        worker_shutting_down.send(sender=self._parent.hostname, sig=signal.Signals(number).name, how="Warm", exitcode=EX_OK)


def _end_at_once(_number: int, _frame: Any) -> None:
    _say("stopped at once; what was recorded is safe")
    os._exit(EX_FAILURE)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody may listen any more
        os.write(2, f"haul: {text}\n".encode())  # the stream that belongs to it may be in the middle of a write


def _send(app: Any, task: str, *arguments: object) -> None:
    """Send a task by name, or not, when the broker does not take it at once."""
    with contextlib.suppress(OperationalError, OSError):
        app.send_task(task, list(arguments), expires=EXPIRES_S, retry=False, ignore_result=True)


class SupervisorStep(bootsteps.StartStopStep):
    """The supervisor inside a worker; never in a prefork parent, which must not have threads when it forks."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, supervise: bool = False, lasting: bool = True, **options: Any) -> None:
        self._supervisor: Any = None
        self._lasting = lasting
        super().__init__(parent, **options)
        self.enabled = supervise
        pool = parent.pool_cls.__module__
        if supervise and not pool.endswith((".thread", ".solo")):
            raise SystemExit("--supervise needs the threads or the solo pool: add -P threads, or run `haul supervise` beside this worker")

    def include_if(self, parent: Any) -> bool:  # noqa: ARG002 - the base class passes it
        """Only where it was asked for."""
        return bool(self.enabled)

    def start(self, parent: Any) -> None:
        """Start the loops over the services of this process; without the store the worker ends, and says so in a line."""
        try:
            services = parent.app.services.get()
        except Transient as error:
            _say(f"{error}; start the worker again when it is back")
            raise SystemExit(EX_UNREACHABLE) from None
        try:
            self._supervisor = parent.supervisor = wiring.build_supervisor(
                services, partial(_send, parent.app, "haul.clock") if self._lasting else None
            )
        except SettingsError as error:
            _say(str(error))
            raise SystemExit(EX_USAGE) from None
        self._supervisor.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002
        """Stop the loops and let the leases go."""
        if self._supervisor is not None:
            self._supervisor.stop()

    terminate = stop


class BeatStep(bootsteps.StartStopStep):
    """Beat as a thread of the one process of an embedded stack."""

    requires = (SupervisorStep,)

    def __init__(self, parent: Any, beat_thread: bool = False, **options: Any) -> None:
        super().__init__(parent, **options)
        self.enabled = beat_thread
        self._service: Any = None

    def include_if(self, parent: Any) -> bool:  # noqa: ARG002
        """Only where it was asked for."""
        return bool(self.enabled)

    def start(self, parent: Any) -> None:
        """Start the schedule."""
        self._service = EmbeddedService(parent.app, thread=True, schedule_filename=parent.app.conf.beat_schedule_filename)
        self._service.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002
        """Write the schedule down and stop."""
        if self._service is not None:
            self._service.stop()


class StartStep(bootsteps.StartStopStep):
    """Sends what is to run when a worker has started; not in the stack of one command, whose end is near."""

    requires = (SupervisorStep,)

    def __init__(self, parent: Any, lasting: bool = True, **options: Any) -> None:
        super().__init__(parent, **options)
        self.enabled = lasting

    def include_if(self, parent: Any) -> bool:  # noqa: ARG002
        """Not where it was refused."""
        return bool(self.enabled)

    def start(self, parent: Any) -> None:
        """Send them, to be taken when those that make a worker busy at its start are over."""
        for name in (name for name, entry in CLOCK.items() if entry.get("at_start")):
            _send(parent.app, f"haul.maintenance.{name}", True)  # the cache fills without it, too


class ApiStep(bootsteps.StartStopStep):
    """The HTTP API as threads of the one process of an embedded stack; made by a factory that the command line passes."""

    requires = (SupervisorStep,)

    def __init__(self, parent: Any, api: Callable[[Services, Callable[[], dict[str, float]]], Runs] | None = None, **options: Any) -> None:
        super().__init__(parent, **options)
        self.enabled = api is not None
        self._make = api
        self._api: Runs | None = None

    def include_if(self, parent: Any) -> bool:  # noqa: ARG002
        """Only where a factory was passed."""
        return bool(self.enabled)

    def start(self, parent: Any) -> None:
        """Listen."""
        assert self._make is not None, "included without a factory"
        self._api = self._make(parent.app.services.get(), parent.supervisor.loops)
        self._api.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002
        """Finish what is being answered."""
        if self._api is not None:
            self._api.stop()
