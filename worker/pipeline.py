"""The path of a job, readable top to bottom: each step is a look at what waits, in batches, and can be run twice.

    accept · enqueue      a door writes the record                                   admission/doors.py
    intake                messages of bots become records and actions                admission/doors.py
    describe              the .torrent file of a URL is fetched and read             admission/describe.py
    probe                 the source is asked for its size                           admission/probing.py
    admit                 queued      -> submitting, when there is room              admission/admit.py
    start                 submitting  -> downloading, by the owner of the engine     supervision/submission.py
    (tick)                downloading -> finishing | failed | paused | queued again  supervision/owner.py
    finish                finishing   -> done, verified and moved                    delivery/finish.py
    notify                the outside is told                                        notify/outbox.py
    webhook               each event is posted to the receiver of its job            notify/webhook.py
    control · why         what a user asks, and what a user is told                  admission/control.py, why.py
    drain · undrain       whether an engine is given work                            admission/drains.py

A nudge makes a step look soon; `sweep` finds whatever no nudge told of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from worker import doing, logs, sharing
from worker.admission.admit import admit
from worker.admission.allowance import allowance
from worker.admission.allowance import overview as limits
from worker.admission.bandwidth import bandwidth, set_bandwidth
from worker.admission.control import control
from worker.admission.describe import describe
from worker.admission.doors import Accepted, accept, enqueue, intake
from worker.admission.drains import away_on_purpose, drain, undrain
from worker.admission.probing import probe
from worker.admission.queue import is_whole, rebuild
from worker.admission.why import Why, overview, why
from worker.delivery.finish import finish
from worker.jobs.states import State
from worker.limits import ADMIT_BATCH, STEP_BATCH, STEP_BUDGET_S
from worker.notify import outbox, webhook
from worker.ports import Services, Step

__all__ = [
    "Accepted",
    "Why",
    "accept",
    "allowance",
    "away_on_purpose",
    "bandwidth",
    "control",
    "drain",
    "enqueue",
    "limits",
    "overview",
    "run",
    "set_bandwidth",
    "sweep",
    "undrain",
    "why",
]

log = logs.get(__name__)


def start(services: Services, limit: int) -> int:  # noqa: ARG001 - every step has this shape
    """Wake the owners of the engines; they hand over what is `submitting`."""
    for engine in services.engines:
        services.coordinator.wake(engine)
    return 0


STEPS: Mapping[Step, Callable[[Services, int], int]] = {
    Step.INTAKE: intake,
    Step.DESCRIBE: describe,
    Step.PROBE: probe,
    Step.ADMIT: admit,
    Step.START: start,
    Step.FINISH: finish,
    Step.NOTIFY: outbox.drain,
    Step.WEBHOOK: webhook.drain,
}
#: How much a step takes at once, where it is not `STEP_BATCH`.
BATCHES: Mapping[Step, int] = {Step.ADMIT: ADMIT_BATCH}


def run(services: Services, step: Step) -> int:
    """Do what waits for a step until nothing is left or 2 s are over, then nudge it again; returns how much was done.

    The nudge's flag is taken down before the first look, so that what comes during the look sends a nudge of its own.

    Raises:
        Transient: a service does not answer; what was done is done.
    """
    services.coordinator.looked(step)
    begun, total = time.monotonic(), 0
    with services.metrics.steps.labels(step).time():
        while done := _look(services, step):
            total += done
            if time.monotonic() - begun >= STEP_BUDGET_S:
                services.nudger.nudge(step)
                break
    services.metrics.step_items.labels(step).inc(total)
    return total


def _look(services: Services, step: Step) -> int:
    with doing.at(f"step {step}"):
        return STEPS[step](services, BATCHES.get(step, STEP_BATCH))


@doing.at("sweep")
def sweep(services: Services, *, rebuilding: bool = False) -> list[Step]:
    """Nudge every step that has work, and mend the waiting index; a few counts, however many jobs there are.

    Args:
        rebuilding: write the waiting index anew even when its size is right.
    """
    counts = services.store.counts((State.QUEUED, State.SUBMITTING, State.FINISHING))
    queued = counts.get(State.QUEUED, 0) - sharing.mend(services)
    undescribed, unprobed = len(services.store.undescribed(STEP_BATCH)), len(services.store.unprobed(STEP_BATCH))
    if rebuilding or not is_whole(services, queued, undescribed + unprobed):
        rebuild(services)
        if not rebuilding:
            services.metrics.reconciled.labels("", "index").inc()
    waits = {
        Step.INTAKE: services.coordinator.intake_size() > 0,
        Step.DESCRIBE: undescribed > 0,
        Step.PROBE: unprobed > 0,
        Step.ADMIT: queued > undescribed + unprobed,
        Step.START: counts.get(State.SUBMITTING, 0) > 0,
        Step.FINISH: counts.get(State.FINISHING, 0) > 0,
        Step.NOTIFY: bool(services.store.unsent(1)),
        Step.WEBHOOK: webhook.waits(services),
    }
    steps = [step for step, some in waits.items() if some]
    for step in steps:
        services.nudger.nudge(step)
    return steps
