"""A slowdown that the baseline has to find, and captures that die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import Program, Stack, eventually
from tests.faults.catalogue import fault
from tests.faults.redis_roles import address, through
from tests.tcp_proxy import TcpProxy
from worker.cli.servers import free_port
from worker.maintenance.baseline import keep, probes

#: Each way, which is more than a busy machine adds by chance.
FAR_S = 0.010
#: The other tests of this suite run beside this one, and the noise that they make widens what is taken for the same. That a slowdown of
#: 30 % is found on a calm machine is shown by simulation (tests/unit).
SLOWER = 3.0
#: Figures of what is at the far end of a line; the others are of a machine that is loaded by who knows what.
FAR = ("engine.aria2.", "redis.")
COMMAND_S = 120.0
LOOKS_MAX = 6


class Commands:
    """`haul baseline …` in processes of their own, with engine and Redis at the far end of a line each."""

    def __init__(self, stack: Stack, engine: TcpProxy, redis: TcpProxy, api: str) -> None:
        self.engine, self.redis = engine, redis
        self.judged: dict[str, Any] = {}
        self.environment: Mapping[str, str] = {
            **stack.environment(),
            "HAUL_ENGINES": stack.environment()["HAUL_ENGINES"].replace(address(stack.aria2.url), engine.address),
            "HAUL_REDIS_URL": through(stack, redis),
            "HAUL_API_URL": api,
        }

    def run(self, *words: str) -> tuple[int, Any]:
        """The exit code, and the JSON it printed (None when it printed none)."""
        command = [sys.executable, "-W", "ignore", "-m", "worker.cli", "baseline", *words, "--json"]
        ended = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
        assert ended.returncode in (0, 1, 2), ended.stderr
        return ended.returncode, json.loads(ended.stdout) if ended.stdout else None

    def regressions(self) -> list[str]:
        """What is worse of the figures `FAR` against the median of the last seven; of all figures the exit code says so."""
        code, compared = self.run("compare")
        assert code == bool(compared["regressions"])
        assert len(compared["before"]) == 7
        self.judged = {each["figure"]: each for each in compared["figures"]}
        return [figure for figure in compared["regressions"] if figure.startswith(FAR)]

    def await_regressions(self, *figures: str) -> None:
        """Look until these are found, and never anything else.

        A look while the machine itself is slower says `same`, with a tolerance that is larger than what was planted.
        """
        for _ in range(LOOKS_MAX):
            found = self.regressions()
            assert set(found) <= set(figures)
            if found == list(figures):
                return
        raise AssertionError(f"not found in {LOOKS_MAX} looks: {[self.judged[name] for name in figures]}")


@pytest.fixture
def commands(stack: Stack) -> Iterator[Commands]:
    """A running stack with an API, and the commands."""
    stack.work()
    port = free_port()
    stack.run("worker.cli", "api", HAUL_API_PORT=str(port))
    with ExitStack() as held:
        engine, redis = (held.enter_context(TcpProxy(address(url))) for url in (stack.aria2.url, stack.redis.url))
        commands = Commands(stack, engine, redis, f"http://127.0.0.1:{port}")
        eventually(lambda: "absent" not in commands.run("capture")[1]["figures"]["api.health.p50_ms"], "the API answers")
        yield commands


@fault(
    "An engine, and then Redis, answers three times slower than it used to",
    provoked="a proxy before each that keeps every piece back for 10 ms; seven captures are kept and three looks taken; then 30 ms "
    "before the one, and before the other",
    holds="the three looks find no regression of either; each slowdown is found, by exit code 1 and the names of the figures of that "
    "service, and not of the other, within a few looks",
)
@pytest.mark.timeout(600)
def test_a_planted_slowdown_is_found_at_its_service_alone_and_an_unchanged_one_raises_no_alarm(commands: Commands) -> None:
    commands.engine.delay(FAR_S)
    commands.redis.delay(FAR_S)
    for _ in range(7):
        code, made = commands.run("capture")
        assert code == 0
        assert made["figures"]["engine.aria2.rpc_ms"]["median"] > 2000 * FAR_S
    for _ in range(3):
        assert commands.regressions() == []
    commands.engine.delay(SLOWER * FAR_S)
    commands.await_regressions("engine.aria2.rpc_ms")
    commands.engine.delay(FAR_S)
    commands.redis.delay(SLOWER * FAR_S)
    commands.await_regressions("redis.ping_ms", "redis.snapshots_ms")


@fault(
    "A capture is killed in its middle",
    provoked="`haul baseline capture` is sent SIGKILL once its scratch lines are in the store, twice",
    holds="the captures kept before are there and whole, and the next capture, once the dead one's claim is over, leaves no scratch line "
    "and no half file",
)
@pytest.mark.timeout(300)
def test_a_capture_that_is_killed_leaves_nothing_after_the_next(commands: Commands, stack: Stack) -> None:
    where = Path(commands.environment["HAUL_DATA_DIR"]) / ".metrics" / "baselines"
    kept = keep.ids(where)
    store = stack.services.store
    for _ in range(2):
        dying = Program(commands.environment, stack.log, "worker.cli", "baseline", "capture")
        eventually(lambda: store.runs(probes.SCRATCH, 1), "scratch lines are in the store", seen=stack.tail)
        dying.signal(signal.SIGKILL)
        dying.kill()
        assert keep.ids(where) == kept
        eventually(lambda: commands.run("capture")[0] == 0, "the claim of the dead one is over", seen=stack.tail)
        kept = keep.ids(where)
        assert store.runs(probes.SCRATCH, 9) == []
    assert len(keep.kept(where, None, 99)) == len(kept) >= 3
    assert not list(where.glob(".new-*"))
