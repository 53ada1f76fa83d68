"""What may run inside a Celery worker beside its tasks: the supervisor, beat, the API. Each only where it was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from celery import bootsteps
from celery.beat import EmbeddedService

from worker import wiring
from worker.ports import Services


class Runs(Protocol):
    """Something with loops of its own inside a worker process."""

    def start(self) -> object:
        """Start; returns at once."""

    def stop(self) -> object:
        """Stop; returns when it has."""


class SupervisorStep(bootsteps.StartStopStep):
    """The supervisor inside a worker; never in a prefork parent, which must not have threads when it forks."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, supervise: bool = False, **options: Any) -> None:
        self._supervisor: Any = None
        super().__init__(parent, **options)
        self.enabled = supervise
        pool = parent.pool_cls.__module__
        if supervise and not pool.endswith((".thread", ".solo")):
            raise SystemExit("--supervise needs the threads or the solo pool: add -P threads, or run `haul supervise` beside this worker")

    def include_if(self, parent: Any) -> bool:  # noqa: ARG002 - the base class passes it
        """Only where it was asked for."""
        return bool(self.enabled)

    def start(self, parent: Any) -> None:
        """Start the loops over the services of this process."""
        self._supervisor = parent.supervisor = wiring.build_supervisor(parent.app.services.get())
        self._supervisor.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002
        """Stop the loops and let the leases go."""
        if self._supervisor is not None:
            self._supervisor.stop()


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
