"""A slowdown that the baseline has to find, and captures that die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.e2e.stack import Program, Stack, eventually
from tests.faults.catalogue import fault
from tests.faults.redis_roles import address
from tests.tcp_proxy import TcpProxy
from worker.cli.lock import running
from worker.maintenance.baseline import keep, probes

#: The line to engine and Redis, each way: by far the most of what a call takes.
FAR_S = 0.005
SLOWER = 1.3
HISTORY, LOOKS, LOOKS_MAX = 7, 10, 4
COMMAND_S = 120.0
START_S = 60.0
#: The load of the tests before this one dies away; one that stays is printed when the test fails.
CALM_LOAD, CALM_S = 1.0, 240.0
#: What tells how the machine itself was doing.
MACHINE = ("machine.load", "machine.yardstick", "machine.disk_sync")


def run(environment: Mapping[str, str], *words: str) -> tuple[int, Any]:
    """`haul baseline …` in a process of its own: the exit code, and the JSON it printed (None when it printed none)."""
    command = [sys.executable, "-W", "ignore", "-m", "worker.cli", "baseline", *words, "--json"]
    ended = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    assert ended.returncode in (0, 1, 2), ended.stderr
    return ended.returncode, json.loads(ended.stdout) if ended.stdout else None


@dataclass
class Watched:
    """`haul up`, and the commands on baselines with its engine and its Redis at the far end of a line each.

    Attributes:
        looks: what each said, for whoever has to understand a failure.
    """

    environment: Mapping[str, str]
    engine: TcpProxy
    redis: TcpProxy
    looks: list[Mapping[str, Any]] = field(default_factory=list)

    def capture(self) -> Mapping[str, Any]:
        """One that is kept; its figures. The clock's own captures are waited for."""
        made = eventually(lambda: run(self.environment, "capture")[1], "no other capture is under way", COMMAND_S)
        figures: dict[str, Any] = made["figures"]
        return figures

    def regressions(self) -> list[str]:
        """What is worse now than the median of the last seven, of all figures."""
        code, compared = eventually(
            lambda: (told := run(self.environment, "compare"))[1] and told, "no other capture is under way", COMMAND_S
        )
        found = list(compared["regressions"])
        self.looks.append({"load": os.getloadavg()[0], **compared})
        assert (code, len(compared["before"])) == (bool(found), HISTORY)
        return found

    def await_regressions(self, *figures: str) -> None:
        """Look until all of these are found; never anything else."""
        for _ in range(LOOKS_MAX):
            found = self.regressions()
            assert set(found) <= set(figures), self.story()
            if found == list(figures):
                return
        raise AssertionError(f"{figures} not found in {LOOKS_MAX} looks\n{self.story()}")

    def story(self) -> str:
        """All of the last look, and of the others what was not simply the same."""
        last = len(self.looks) - 1
        return "\n".join(line for number, look in enumerate(self.looks) for line in _lines(number, look, whole=number == last))


def _lines(number: int, look: Mapping[str, Any], *, whole: bool) -> Iterator[str]:
    yield f"look {number}, load {look['load']:.2f}: {', '.join(look['regressions']) or 'nothing'} worse"
    for each in look["figures"]:
        values = [f"{each[name]:.5g}" if each[name] is not None else "-" for name in ("before", "tolerance", "now")]
        if whole or each["verdict"] not in ("same", "told") or "second look" in each["why"] or each["figure"].startswith(MACHINE):
            yield f"  {each['verdict']:8} {each['figure']:32} {' ± '.join(values[:2])} → {values[2]} {each['unit']} {each['why']}"


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A stack as it is on one machine, once it is up and the machine is calm."""
    data, log = tmp_path / "data", tmp_path / "up.log"
    environment = {"HAUL_DATA_DIR": str(data), "HAUL_API_PORT": "0", "HAUL_STORE_URL": "", "HAUL_LOG_LEVEL": "info"}
    data.mkdir()
    up = Program(environment, log, "worker.cli", "up")
    with ExitStack() as held:
        held.callback(up.stop)
        stack = eventually(lambda: running(data), "haul up is up", START_S, log.read_text)
        engine, redis = (held.enter_context(TcpProxy(address(url))) for url in (stack.engines[0], stack.redis_url))
        far = {
            "HAUL_ENGINES": stack.engines[0].replace(address(stack.engines[0]), engine.address),
            "HAUL_REDIS_URL": stack.redis_url.replace(address(stack.redis_url), redis.address),
        }
        watched = Watched({**environment, **far}, engine, redis)
        eventually(lambda: "median" in watched.capture()["engine.aria2.rpc_ms"], "the engine is looked after", START_S, log.read_text)
        for _ in range(int(CALM_S)):
            if os.getloadavg()[0] < CALM_LOAD:
                break
            time.sleep(1.0)
        yield watched


@pytest.mark.alone
@pytest.mark.timeout(1200)
@fault(
    "An engine, and then Redis, takes 30 % longer to answer than it used to",
    provoked="`haul up`, and a proxy before engine and Redis that keeps every piece back for 5 ms; seven captures are kept and ten looks "
    "taken; then the proxy makes the engine's figure 1.3 times what it was, and after that those of Redis",
    holds="of all figures that are judged the ten looks find none worse; the engine's is found within a few looks, and never another; "
    "a slow Redis shows as its two round trips, and never as anything else",
)
def test_a_slowdown_of_30_per_cent_is_found_where_it_was_planted_alone_and_ten_looks_at_an_unchanged_system_find_nothing(
    watched: Watched,
) -> None:
    watched.engine.delay(FAR_S)
    watched.redis.delay(FAR_S)
    calls = [watched.capture()["engine.aria2.rpc_ms"]["median"] for _ in range(HISTORY)]
    slower_s = FAR_S + (SLOWER - 1) * median(calls) / 2000
    for _ in range(LOOKS):
        watched.regressions()
    assert [look["regressions"] for look in watched.looks] == [[]] * LOOKS, watched.story()
    watched.engine.delay(slower_s)
    watched.await_regressions("engine.aria2.rpc_ms")
    watched.engine.delay(FAR_S)
    watched.redis.delay(SLOWER * FAR_S)
    watched.await_regressions("redis.ping_ms", "redis.snapshots_ms")


@fault(
    "A capture is killed in its middle",
    provoked="`haul baseline capture` is sent SIGKILL once its scratch lines are in the store, twice",
    holds="the captures kept before are there and whole, and the next capture, once the dead one's claim is over, leaves no scratch line "
    "and no half file",
)
@pytest.mark.timeout(300)
def test_a_capture_that_is_killed_leaves_nothing_after_the_next(stack: Stack) -> None:
    where = stack.directory / ".metrics" / "baselines"
    stack.work()
    eventually(lambda: run(stack.environment(), "capture")[0] == 0, "the first one is kept", seen=stack.tail)
    kept = keep.ids(where)
    store = stack.services.store
    for _ in range(2):
        dying = Program(stack.environment(), stack.log, "worker.cli", "baseline", "capture")
        eventually(lambda: store.runs(probes.SCRATCH, 1), "scratch lines are in the store", seen=stack.tail)
        dying.signal(signal.SIGKILL)
        dying.kill()
        assert keep.ids(where) == kept
        eventually(lambda: run(stack.environment(), "capture")[0] == 0, "the claim of the dead one is over", seen=stack.tail)
        kept = keep.ids(where)
        assert store.runs(probes.SCRATCH, 9) == []
    assert len(keep.kept(where, None, 99)) == len(kept) >= 3
    assert not list(where.glob(".new-*"))
