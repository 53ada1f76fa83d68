"""One budget of bandwidth over both engines, as each of them says itself. The rate is measured by `make bench ARGS=bandwidth`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tests.e2e.budgets import MIB, SIZE, about, at_work, held, limits, parts
from tests.e2e.engines import Aria2
from tests.e2e.stack import Stack, eventually
from worker import pipeline, wiring
from worker.jobs.limits import override_key
from worker.ports import Services, Step
from worker.supervision.supervisor import Supervisor

#: A division every two seconds by each owner, with snapshots a second old, and a loaded machine.
SOON_S = 30.0


def test_engines_at_work_are_held_to_their_parts_and_who_is_left_to_all_of_it(tmp_path: Path) -> None:
    with Stack(tmp_path / "stack", engines=("aria2", "qbittorrent")) as stack:
        stack.work(HAUL_BANDWIDTH="4 MiB")
        aria2 = stack.engines["aria2"]
        assert isinstance(aria2, Aria2)
        with at_work(stack) as (one, two):
            eventually(lambda: all(about(part, 0.5) for part in parts(stack)), "each has a half", SOON_S, lambda: parts(stack))
            assert about(sum(parts(stack)), 1)

            aria2.rpc("changeGlobalOption", {"max-overall-download-limit": "2048"})
            assert parts(stack)[0] < 0.1
            eventually(lambda: about(parts(stack)[0], 0.5), "what somebody changed is put right", SOON_S, lambda: parts(stack))

            stack.act(two, "cancel")
            eventually(lambda: parts(stack)[0] > 0.9, "aria2 has what nobody else can use", SOON_S, lambda: parts(stack))
            stack.act(one, "cancel")


def test_a_schedule_turns_while_both_engines_work_and_what_is_set_at_run_time_goes_before_it(tmp_path: Path) -> None:
    turned = Turned(datetime(2025, 6, 2, 7, 59, tzinfo=ZoneInfo("Europe/Berlin")))
    with Stack(tmp_path / "stack", engines=("aria2", "qbittorrent")) as stack, supervised(stack, turned) as services:
        pipeline.set_bandwidth(services, "4 MiB; Mon-Fri 08:00-18:00 1 MiB; Sat,Sun 00:00-24:00 unlimited")
        eventually(lambda: all(parts(stack)), "both are held", SOON_S, lambda: parts(stack))
        with at_work(stack):
            eventually(lambda: about(sum(parts(stack)), 1), "together they have the budget", SOON_S, lambda: parts(stack))

            turned.to(datetime(2025, 6, 2, 8, 0, tzinfo=ZoneInfo("Europe/Berlin")))
            eventually(lambda: about(sum(parts(stack)), 0.25), "the hour has come", SOON_S, lambda: parts(stack))
            seen = eventually(lambda: (found := divided(services, MIB)) and found["in_force"] and found, "and is shown", SOON_S)
            assert (seen["rate"], seen["next_at"], seen["next_rate"]) == (MIB, "2025-06-02T18:00:00+02:00", 4 * MIB)
            eventually(
                lambda: shown(services) == [engine.throttled() for engine in stack.engines.values()], "as they say themselves", SOON_S
            )
            pipeline.set_bandwidth(services, "2 MiB")
            eventually(lambda: about(sum(parts(stack)), 0.5), "set", SOON_S, lambda: parts(stack))
            pipeline.set_bandwidth(services, None)
            eventually(lambda: parts(stack) == [0, 0], "taken back", SOON_S, lambda: parts(stack))


def divided(services: Services, budget: int) -> dict[str, Any] | None:
    """What is told of the bandwidth, once the shares of all engines that are shown make up the budget; each owner shows its own."""
    seen = pipeline.bandwidth(services)
    return seen if 0.97 * budget <= sum(engine["share"] or 0 for engine in seen["engines"]) <= budget else None


def test_the_downloads_of_a_tier_share_its_bandwidth_on_both_engines_and_a_job_has_a_limit_of_its_own(tmp_path: Path) -> None:
    with Stack(tmp_path / "stack", engines=("aria2", "qbittorrent")) as stack:
        stack.services.store.set_limits({override_key("tiers", "bandwidth", "free"): 3 * MIB})
        stack.work()
        slow = stack.ask_all([{"uri": f"file/slow.bin?size={SIZE}&seed=3", "user": "cat", "tier": "vip", "max_speed": "200 KiB"}])[0]
        other = stack.ask(f"file/other.bin?size={SIZE}&seed=4", "ann")
        with at_work(stack) as (one, two):
            eventually(
                lambda: held(stack, MIB, one, two, other),
                "each has a third",
                SOON_S,
                lambda: limits(stack, one, two, other),
            )
            assert about(limits(stack, slow)[0], 200 * 1024)
            before, begun = stack.services.coordinator.progress({"aria2": [slow]})[slow].done, time.monotonic()
            stack.services.store.set_limits({override_key("tiers", "bandwidth", "free"): 6 * MIB})
            eventually(
                lambda: held(stack, 2 * MIB, one, two, other),
                "changed",
                SOON_S,
                lambda: limits(stack, one, two, other),
            )

            stack.act(one, "cancel")
            stack.act(other, "cancel")
            eventually(lambda: limits(stack, two)[0] > 5 * MIB, "who is left has all of it", SOON_S, lambda: limits(stack, two))
            took = stack.services.coordinator.progress({"aria2": [slow]})[slow].done - before
            assert took <= 200 * 1024 * (time.monotonic() - begun) * 1.2 + MIB / 4
            stack.services.store.set_limits({}, drop=[override_key("tiers", "bandwidth", "free")])
            eventually(lambda: limits(stack, two) == [0], "lifted", SOON_S, lambda: limits(stack, two))
            stack.cancel_all([slow, two])


def shown(services: Services) -> list[int]:
    """What `haul bandwidth show` says that aria2, and qBittorrent, is held to."""
    return [engine["limit"] or 0 for engine in pipeline.bandwidth(services)["engines"]]


class Turned:
    """A wall clock that goes on from where the test sets it."""

    def __init__(self, to: datetime) -> None:
        self.to(to)

    def to(self, moment: datetime) -> None:
        self._shift = moment.timestamp() - time.time()

    def time(self) -> float:
        return time.time() + self._shift


@contextmanager
def supervised(stack: Stack, clock: Turned) -> Iterator[Services]:
    """A supervisor in this process, by another clock, that runs the steps itself."""
    settings = stack.settings.model_copy(update={"timezone": "Europe/Berlin"})
    services = replace(wiring.build(settings), clock=clock)
    supervisor = Supervisor(services, lambda services: [step for step in Step if pipeline.run(services, step)])
    supervisor.start()
    try:
        yield services
    finally:
        supervisor.stop()
        services.close()
