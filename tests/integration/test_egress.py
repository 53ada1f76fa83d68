"""What downloads can reach, tried with real engines in network namespaces: with the kernel's guard, with Haul's check, with neither."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.egress.corpus import Case, cases
from tests.egress.lab import Lab, lab, missing
from worker.cli.servers.qbittorrent import find_qbittorrent

reason = missing()
pytestmark = pytest.mark.skipif(reason is not None, reason=str(reason))

qbittorrent = pytest.mark.skipif(find_qbittorrent() is None, reason="not installed: qbittorrent-nox")


@pytest.fixture
def world() -> Iterator[Lab]:
    with lab() as made:
        yield made


def test_the_kernels_guard_lets_no_case_through_and_every_public_download(world: Lab, tmp_path: Path) -> None:
    world.guard()
    found = world.engine("raw", tmp_path)
    assert found["hits"] == []
    assert found["public"], "a file and a tracker at public addresses are reached"


def test_the_check_stops_all_but_what_is_listed_and_that_is_still_so(world: Lab, tmp_path: Path) -> None:
    found = world.engine("checked", tmp_path)
    wrong = {case.id: found["outcomes"].get(case.id) for case in cases() if found["outcomes"].get(case.id) != case.stop}
    assert wrong == {}
    reached = {case.id for case in cases() if case.reached(found["hits"])}
    assert reached == {case.id for case in cases() if case.stop == "nothing"}, "the list of what it cannot stop is true"
    assert [hit for hit in found["hits"] if not any(case.reached([hit]) for case in cases() if case.stop == "nothing")] == []
    assert found["public"]


@qbittorrent
def test_the_kernels_guard_lets_qbittorrent_reach_public_trackers_and_no_case(world: Lab, tmp_path: Path) -> None:
    world.guard()
    found = world.engine("raw", tmp_path, "qbittorrent")
    assert found["hits"] == []
    assert found["public"]


def test_the_guard_of_one_user_leaves_the_others_alone(world: Lab) -> None:
    world.guard("nobody")
    ask = ("curl", "--silent", "--max-time", "5", "--output", "/dev/null", "--write-out", "%{http_code}", "http://10.66.0.1:8099/x")
    assert world.run(*ask).stdout == "404", "root is no engine"
    guarded = world.run("setpriv", "--reuid", "nobody", "--clear-groups", *ask)
    assert (guarded.stdout, guarded.returncode) == ("000", 7), "refused at once"


def test_an_engine_is_proved_to_be_guarded_when_it_is_and_not_otherwise(world: Lab, tmp_path: Path) -> None:
    assert world.engine("proof", tmp_path)["unproved"] == "it reached the private address 127.0.0.1 of this machine"
    world.guard("nobody")
    assert world.engine("proof", tmp_path)["unproved"] is None


def test_allowed_networks_are_open_and_the_rules_can_be_loaded_again(world: Lab) -> None:
    look = ("curl", "--silent", "--max-time", "5", "--output", "/dev/null", "--write-out", "%{http_code}")
    for allowed, code in (("10.66.0.0/16, fd00::/8", "404"), ("", "000"), ("10.66.0.1/32,fd00::66/128", "404")):
        world.guard(allowed=allowed)
        for host in ("10.66.0.1", "[fd00::66]"):
            assert world.run(*look, f"http://{host}:8099/x").stdout == code, (allowed, host)
        assert world.run(*look, "http://10.67.0.1:8099/x").stdout == "000"


def test_there_are_cases_of_every_kind() -> None:
    stops = [case.stop for case in cases()]
    assert len(stops) >= 150
    assert {stop: stops.count(stop) > 5 for stop in ("door", "check", "stripped", "nothing")} == dict.fromkeys(
        ("door", "check", "stripped", "nothing"), True
    )
    assert all(isinstance(case, Case) and (case.why or case.stop != "nothing") for case in cases())
