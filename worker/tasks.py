"""Every Celery task: a nudge to look. Arguments are none, but for the one door that takes a request as a message."""

from __future__ import annotations

import contextlib
from typing import Any, cast

from celery import Task, shared_task

from beat_schedule import CLOCK, EXPIRES_S
from worker import pipeline, tries
from worker.celery import HaulApp, sender
from worker.jobs.errors import Rejected, Transient
from worker.maintenance import stand_in
from worker.maintenance.timetable import Timetable
from worker.ports import Services, Step

#: A checksum of a large file takes as long as reading it; the limit is there for what hangs.
FINISH_LIMIT_S = 4 * 3600
#: The same of a backup or a drill. A copy of the message that comes back before finds the lane taken, and ends.
WORK_LIMIT_S = 4 * 3600


class StepTask(Task):  # type: ignore[type-arg]
    """The one retry policy: a service that does not answer is asked again soon, three times; then the sweep is the net."""

    autoretry_for = (Transient,)
    throws = (Transient,)  # expected: a line in the log without a traceback
    retry_backoff = 1
    retry_backoff_max = 8
    max_retries = 3
    default_retry_delay = 5  # seconds after which a task is sent again whose process died

    @property
    def services(self) -> Services:
        """The services of this process."""
        app = cast("HaulApp", self.app)
        return app.services.get()


@shared_task(name="haul.intake", base=StepTask, bind=True)
def intake(self: StepTask) -> None:
    """Record what bots have put in the intake."""
    pipeline.run(self.services, Step.INTAKE)


@shared_task(name="haul.describe", base=StepTask, bind=True)
def describe(self: StepTask) -> None:
    """Fetch and read the .torrent files of jobs that name one."""
    pipeline.run(self.services, Step.DESCRIBE)


@shared_task(name="haul.probe", base=StepTask, bind=True)
def probe(self: StepTask) -> None:
    """Ask the sources of jobs for their size."""
    pipeline.run(self.services, Step.PROBE)


@shared_task(name="haul.admit", base=StepTask, bind=True)
def admit(self: StepTask) -> None:
    """Start what may start."""
    pipeline.run(self.services, Step.ADMIT)


@shared_task(name="haul.start", base=StepTask, bind=True)
def start(self: StepTask) -> None:
    """Wake the owners of the engines."""
    pipeline.run(self.services, Step.START)


@shared_task(name="haul.finish", base=StepTask, bind=True, time_limit=FINISH_LIMIT_S, soft_time_limit=FINISH_LIMIT_S - 60)
def finish(self: StepTask) -> None:
    """Verify and move what is complete."""
    pipeline.run(self.services, Step.FINISH)


@shared_task(name="haul.notify", base=StepTask, bind=True)
def notify(self: StepTask) -> None:
    """Tell the outside what happened."""
    pipeline.run(self.services, Step.NOTIFY)


@shared_task(name="haul.webhook", base=StepTask, bind=True)
def webhook(self: StepTask) -> None:
    """Post events to the webhooks of their jobs."""
    pipeline.run(self.services, Step.WEBHOOK)


@shared_task(name="haul.sweep", base=StepTask, bind=True)
def sweep(self: StepTask) -> None:
    """Find the work that no nudge told of; the supervisor does the same more often."""
    pipeline.sweep(self.services, rebuilding=True)


@shared_task(name="haul.clock", base=StepTask, bind=True)
def clock(self: StepTask) -> None:
    """Send a message for each work that is due by the ledger, whether or not beat did; one that was missed is written down."""
    with contextlib.suppress(Transient):  # a stand-in looks once more
        stand_in.looked(self.services.coordinator)
    send = sender(self.app, EXPIRES_S)
    for name in Timetable.of(CLOCK, self.services).look(self.services):
        send(f"haul.maintenance.{name}")


def _work(name: str) -> None:
    """The task of a work by the clock: runs the slot that is due, if nobody has; `at_start` asks for one that no clock does."""

    @shared_task(name=f"haul.maintenance.{name}", base=StepTask, bind=True, time_limit=WORK_LIMIT_S, soft_time_limit=WORK_LIMIT_S - 60)
    def work(self: StepTask, at_start: bool = False) -> None:
        timetable = Timetable.of(CLOCK, self.services)
        (timetable.run_at_start if at_start else timetable.run_due)(self.services, name)


for _name in CLOCK:
    _work(_name)


@shared_task(name="haul.enqueue", base=StepTask, bind=True)  # type: ignore[arg-type]
def enqueue(self: StepTask, *, source: Any = None, user: Any = None, **options: Any) -> None:
    """The door for bots without our package; what is wrong with a request is told by the event `job.refused`.

    Without a key the message's own id is the key, so that a message delivered twice makes one job. A store that does not
    answer loses nothing: the request then waits in the intake.

    Raises:
        Rejected: there is no user to tell, or workers have died with the message.
    """
    spec = {"key": self.request.id, **options, "uri": source.get("uri") if isinstance(source, dict) else None, "user": user}
    body = {"kind": "request", "spec": spec}
    with tries.alone(self.services, Step.INTAKE, str(self.request.id)) as hopeful:
        if not hopeful:
            raise Rejected("message", tries.given_up(self.services, Step.INTAKE, str(self.request.id), "it dealt with the message"))
        try:
            pipeline.enqueue(self.services, body)
        except Transient:
            self.services.coordinator.offer([body])
