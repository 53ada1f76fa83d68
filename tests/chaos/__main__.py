"""Run it: `make chaos JOBS=1000 KILLS=300 SEED=1 STORE=sqlite`.

Prints one JSON object; the exit code is 1 when anything was lost, twice, wrong or untold.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests

from tests.chaos import plan
from tests.chaos.alone import Alone
from tests.chaos.fleet import SLOTS, Fleet
from tests.chaos.tokens import Disturbances
from tests.chaos.verdict import judge, moves
from tests.chaos.wishes import Users, draw
from worker import pipeline
from worker.client import Client
from worker.jobs.errors import Transient
from worker.jobs.model import Job
from worker.jobs.states import Cause, State
from worker.supervision.bandwidth.regulation import MOST

TURN_S = 0.1
SAY_S = 10.0
UP_S = 60.0
#: After the faults it waits as long as jobs end: how fast they do is the machine's and the store's. So long without an end is the end.
STILL_S = 240.0
QUIET_S = 3600.0
#: A job that is to be paused stands still for so long.
PAUSED_S = 4.0
#: A fault waits so long for its target to be started again.
AWAITED_S = 10.0
#: Of the time of the faults, in which all jobs are asked for.
ASKING = 0.9
#: The budget of bandwidth as an operator changes it: from which share of the run on, and in bytes a second.
BUDGETS = ((0.15, 24 << 20), (0.5, 4 << 20), (0.8, 12 << 20))
HELD_S = 60.0
#: What nobody asks for is found within a minute, twice, and removed.
LEFT_S = 180.0
#: What takes or gives start tokens.
TOKENS = ("prefork", "threads", "redis", "mongodb")
#: In the timeline of a job that has its file by another's download.
FOLLOWED = "fetched for another request"
#: What the receiver of webhooks answers.
TAKEN = 204


class Chaos:
    """One run."""

    def __init__(self, fleet: Fleet, seed: int, jobs: int, kills: int) -> None:
        self._fleet = fleet
        self._wishes = draw(random.Random(f"jobs {seed}"), jobs)
        self._blows = list(plan.draw(random.Random(f"faults {seed}"), kills, list(fleet.members), list(fleet.proxies)))
        self._client = Client(fleet.redis_url)
        self._users = Users(self._wishes, fleet.origin, self._client, fleet.api)
        self._alone = Alone(fleet.engines_alone(), fleet.origin)
        self._jobs: dict[str, Job] = {}
        self._struck: Counter[str] = Counter()
        self._deaths: defaultdict[str, list[float]] = defaultdict(list)
        self._paused_at: dict[str, float] = {}
        self._disturbed = Disturbances()
        self._budgets = list(BUDGETS)
        self._looked_at = self._said_at = float("-inf")
        self._open, self._moved_at = -1, 0.0

    def run(self) -> dict[str, Any]:
        """Strike while jobs are asked for, heal, wait until all is quiet, judge."""
        self._until(self._up, UP_S, "everything is up", asking=False)
        begun = time.monotonic()
        self._alone.start()
        span = sum(blow.gap_s for blow in self._blows)
        due = begun
        for blow in self._blows:
            due += blow.gap_s
            while time.monotonic() < due:
                self._turn((time.monotonic() - begun) / (ASKING * span))
            self._strike(blow)
        self._fleet.heal()
        healed = time.monotonic()
        quiet = self._until(lambda: self._quiet() or self._still(), QUIET_S, "all jobs have ended and all is told") and self._quiet()
        now = time.monotonic()
        held = self._until(self._held, HELD_S, "the engines are held to the budget that was set last")
        tidy = self._until(lambda: self._left() == 0, LEFT_S, "the engines have nothing that nobody asks for")
        self._until(lambda: not self._alone.missing, 60, "the engines alone have everything")
        self._alone.stop()
        self._users.close()
        self._look()
        taken = [post.event for post in self._fleet.receiver.posts if post.answer == TAKEN]
        channels = {"the stream": self._notices(), "webhook": taken}
        verdict = judge(self._wishes, self._jobs, self._fleet.origin, self._deaths, channels, self._fleet.downloads, self._disturbed)
        return {
            **verdict.as_dict(),
            "good": verdict.good and quiet and held and tidy and not self._fleet.receiver.wrong,
            "asked": len(self._wishes),
            "budget_held": held,
            "left_at_engines": self._left(),
            "moved": sum(bool(moves(job)) for job in self._jobs.values()),
            "followed": sum(FOLLOWED in event.text for job in self._jobs.values() for event in job.events),
            "refused": sum(job.cause is Cause.REFUSED for job in self._jobs.values()),
            "webhooks_wrong": self._fleet.receiver.wrong[:5],
            "unanswered": self._users.waiting,
            "seconds_of_faults": round(healed - begun, 1),
            "seconds_to_quiet": round(now - healed, 1),
            "alone_missing": self._alone.missing,
            "kills": dict(sorted(self._struck.items())),
        }

    # ---- turns ----

    def _until(self, true: Callable[[], bool], timeout_s: float, what: str, *, asking: bool = True) -> bool:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._turn(float(asking))
            if true():
                return True
        print(f"not within {timeout_s:g} s: {what}", file=sys.stderr)
        return False

    def _turn(self, share: float) -> None:
        self._fleet.keep()
        self._users.ask(min(1.0, share))
        self._manage(share)
        self._alone.want(self._wishes[: round(min(1.0, share) * len(self._wishes))])
        if time.monotonic() - self._looked_at >= 1.0:
            self._looked_at = time.monotonic()
            with suppress(Transient):
                self._look()
                self._act()
        self._say()
        time.sleep(TURN_S)

    def _manage(self, share: float) -> None:
        """Set the budget when its time has come; what does not answer is asked again at the next turn."""
        if self._budgets and share >= self._budgets[0][0]:
            with suppress(Transient):
                pipeline.set_bandwidth(self._fleet.services, f"{self._budgets[0][1]}")
                del self._budgets[0]

    def _held(self) -> bool:
        """Whether the engines, asked themselves, are held to the last budget, as is shown."""
        with suppress(Transient, requests.RequestException, TypeError):
            parts = [engine.throttled() for engine in self._fleet.engines_themselves()]
            budget = BUDGETS[-1][1]
            return not self._budgets and all(parts) and sum(parts) <= MOST * budget and pipeline.bandwidth(self._fleet.services)["in_force"]
        return False

    def _left(self) -> int:
        failed = {job.transfer.id for job in self._jobs.values() if job.state is State.FAILED and job.transfer}  # for a retry
        with suppress(Transient):
            return self._fleet.left(failed)
        return -1

    def _strike(self, blow: plan.Blow) -> None:
        at = time.monotonic()
        while not plan.strike(self._fleet, blow):
            if time.monotonic() - at >= AWAITED_S:  # it does not come back; the next one finds another
                self._struck["nobody there"] += 1
                return
            self._turn(0.0)
        if blow.target in SLOTS and blow.kind in ("kill -9", "restart", "away"):
            self._deaths[blow.target].append(time.monotonic())
        if blow.target == "redis" and blow.kind in ("kill -9", "restart"):
            self._disturbed.losses.append(time.time())
        if blow.target in TOKENS and blow.seconds:
            self._disturbed.frozen.append((time.time(), time.time() + blow.seconds))
        self._struck[f"{blow.kind}: {blow.target}"] += 1

    def _look(self) -> None:
        open_ = [wish.id for wish in self._wishes if wish.promised and not (wish.id in self._jobs and self._ended(self._jobs[wish.id]))]
        self._jobs.update(self._fleet.services.store.get(open_))

    def _ended(self, job: Job) -> bool:
        return job.terminal and not job.unsent and not job.unposted

    def _act(self) -> None:
        now = time.monotonic()
        for wish in self._wishes:
            job = self._jobs.get(wish.id)
            if job is None or wish.action is None:
                continue
            if job.state is State.DOWNLOADING:
                self._users.act(wish, wish.action)
            if job.state is State.PAUSED and now - self._paused_at.setdefault(wish.id, now) >= PAUSED_S:
                self._users.act(wish, "resume")

    def _up(self) -> bool:
        with suppress(Transient, requests.RequestException):
            up = {snapshot.name for snapshot in self._fleet.services.coordinator.snapshots().values() if snapshot.error is None}
            return up == set(SLOTS) and requests.get(f"{self._fleet.api}/health", timeout=5).status_code == 200
        return False

    def _quiet(self) -> bool:
        return not self._users.waiting and all(wish.id in self._jobs and self._ended(self._jobs[wish.id]) for wish in self._wishes)

    def _still(self) -> bool:
        """True when no job has ended, and nothing was told, for long."""
        open_ = sum(not self._ended(job) for job in self._jobs.values())
        if open_ != self._open:
            self._open, self._moved_at = open_, time.monotonic()
        return time.monotonic() - self._moved_at >= STILL_S

    def _say(self) -> None:
        if time.monotonic() - self._said_at < SAY_S:
            return
        self._said_at = time.monotonic()
        states = Counter(str(job.state) for job in self._jobs.values())
        print(f"{sum(self._struck.values())} faults, {self._users.waiting} unanswered, {dict(states)}", file=sys.stderr)

    def _notices(self) -> Iterable[Mapping[str, Any]]:
        place, events = "0-0", []
        while True:
            page, place = self._fleet.services.coordinator.read_events(place, 1000, 0)
            if not page:
                return events
            events += page


def main() -> int:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=("sqlite", "mongodb"), default="sqlite")
    parser.add_argument("--keep", type=Path, help="a directory that does not exist; it is kept, with all logs")
    chosen = parser.parse_args()
    directory = chosen.keep or Path(tempfile.mkdtemp(prefix="haul-chaos-"))
    try:
        with Fleet(directory, chosen.store, random.Random(f"restarts {chosen.seed}")) as fleet:
            report = Chaos(fleet, chosen.seed, chosen.jobs, chosen.kills).run()
    finally:
        if not chosen.keep:
            shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps({"seed": chosen.seed, "store": chosen.store, **report}, indent=2))
    return 0 if report["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
