"""Failpoints act on the hit they were set for, and are off otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from worker.failpoints import FailpointHit, Failpoints

ROOT = Path(__file__).parents[2]


def test_nothing_happens_at_points_that_were_not_set() -> None:
    Failpoints().hit("x")
    Failpoints("y:raise:1").hit("x")


def test_it_acts_on_the_hit_it_was_set_for_and_only_once() -> None:
    points = Failpoints("x:raise:3,y:raise:1")
    points.hit("x")
    points.hit("x")
    with pytest.raises(FailpointHit, match="x"):
        points.hit("x")
    points.hit("x")
    with pytest.raises(FailpointHit, match="y"):
        points.hit("y")


def test_a_point_can_be_set_for_one_job_of_those_that_pass() -> None:
    points = Failpoints("x@a:raise:2,x:raise:5")
    points.hit("x", "b", "a")
    points.hit("x", "b")
    points.hit("x", "ab")
    with pytest.raises(FailpointHit, match="x@a"):
        points.hit("x", "b", "a", "c")
    with pytest.raises(FailpointHit, match="x"):
        points.hit("x")


def test_eight_threads_hit_a_point_and_one_of_them_is_stopped() -> None:
    points = Failpoints("x:raise:50")

    def hit(_: int) -> bool:
        try:
            points.hit("x")
        except FailpointHit:
            return True
        return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(hit, range(100))) == 1


def test_kill_ends_the_process_at_once_without_a_chance_to_tidy_up() -> None:
    code = "import atexit; from worker.failpoints import Failpoints; atexit.register(print, 'tidied'); Failpoints('x:kill:1').hit('x')"
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=30, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == b""


@pytest.mark.parametrize("spec", ["x", "x:raise", "x:explode:1", "x:raise:0", "x:raise:-1", "x:raise:one", "x:raise:1:2", "ok:raise:1,bad"])
def test_a_spec_that_is_not_understood_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="kill"):
        Failpoints(spec)
