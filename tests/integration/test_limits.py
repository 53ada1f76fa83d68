"""Limits from outside: by HTTP, on the command line, by the client; changed while everything runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.doors import DEADLINE_S, services_on, until
from tests.integration.ended import Ended
from tests.tidy.sources import ROOT
from worker import cli, pipeline
from worker.api.schemas import BandwidthView, LimitsView
from worker.api.server import serve
from worker.cli.servers import Server
from worker.client import Client, Rejected, Transient
from worker.jobs.states import State
from worker.jobs.tiers_file import parse
from worker.ports import EngineSnapshot, Services
from worker.tiers import LiveTiers

URI = "https://example.org/file.iso"


@dataclass
class Place:
    """An API on a data directory with a file of tiers, and the command line beside it."""

    services: Services
    http: httpx.Client
    file: Path
    run: Callable[..., Ended]

    def write(self, text: str) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.file)

    def haul(self, *words: str) -> Ended:
        return self.run(*words)

    def json(self, *words: str) -> Any:
        return self.haul(*words, "--json").json

    def add(self, user: str = "ann", **spec: Any) -> httpx.Response:
        return self.http.post("/v1/jobs", json={"uri": URI, "user": user, **spec})


@pytest.fixture
def haul(
    valkey: Server, key_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Run a command in this process, as one of its own: it builds services anew."""
    environment = {
        "HAUL_DATA_DIR": str(tmp_path),
        "HAUL_REDIS_URL": valkey.url,
        "HAUL_KEY_PREFIX": key_prefix,
        "HAUL_ENGINES": "aria2+http://127.0.0.1:1/jsonrpc",
        "HAUL_TIERS": str(tmp_path / "tiers.toml"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> Ended:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["haul", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture
def place(valkey: Server, key_prefix: str, tmp_path: Path, haul: Callable[..., Ended]) -> Iterator[Place]:
    file = tmp_path / "tiers.toml"
    file.write_text("[tiers.free]\nrunning = 7\n")
    with services_on(valkey.url, key_prefix, tmp_path) as services:
        services = replace(services, tiers=LiveTiers(file, services.store))
        api = serve(services, host="127.0.0.1", port=0)
        api.start()
        with httpx.Client(base_url=api.url, timeout=DEADLINE_S, trust_env=False) as http:
            yield Place(services, http, file, haul)
        api.stop()


def test_the_example_of_a_file_of_tiers_can_be_loaded() -> None:
    limits = parse((ROOT / "examples" / "tiers.toml").read_text())
    free = limits.of("free", "bob")
    assert (free.rate, free.running, free.bytes_a_day, free.bandwidth) == (5, 2, 20 << 30, 10 << 20)
    assert (limits.of("free", "chat7:ann").running, limits.of("free", "chat7:ann").bytes_a_day) == (20, None)
    assert (limits.of("vip", "").weight, limits.of("archive", "").largest_file, limits.overall.running) == (4, None, 500)


def test_who_asks_too_often_by_http_gets_429_with_the_time_to_ask_again(place: Place) -> None:
    place.write("[tiers.free]\nrequests = 0.01\nrequests_burst = 2\n")
    until(lambda: place.services.tiers.fresh().of("free", "ann").requests == 0.01, "the file is read")
    answers = [place.add() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    problem = answers[2].json()
    assert answers[2].headers["content-type"] == "application/problem+json"
    assert 90 <= int(answers[2].headers["Retry-After"]) <= 100
    assert (problem["field"], problem["status"]) == ("rate", 429)
    assert problem["fix"].startswith("ask again in ")
    assert place.services.store.counts() == {State.QUEUED: 2}
    assert place.add(user="bob").status_code == 201


def test_a_limit_set_on_the_command_line_is_in_force_in_processes_that_run(place: Place) -> None:
    assert place.json("limits", "set", "--tier", "free", "queued=1", "largest_file=2 GiB") == {
        "tiers/queued/free": 1,
        "tiers/largest_file/free": 2 << 30,
    }
    assert place.json("limits", "set", "--user", "bob", "queued=none")["users/queued/bob"] is None
    until(lambda: place.add().status_code == 429, "the API goes by it")
    assert [place.add(user="bob").status_code for _ in range(3)] == [201] * 3
    assert set(place.json("limits", "reset", "--tier", "free")) == {"users/queued/bob"}
    until(lambda: place.add().status_code == 201, "the API goes by the file again")
    assert place.services.tiers.of("free", "ann").running == 7


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--tier", "gold", "rate=5"), "tier: there is no tier 'gold' (one of: free, premium, vip, admin)"),
        (("--tier", "free", "weight=0"), "tiers.free.weight: 0 is not such a number"),
        (("--tier", "free", "wait=1"), "tiers.free.wait: there is no such limit"),
        (("--tier", "free", "rate"), "rate: has no value"),
        (("--global", "weight=1"), "global.weight: there is no such limit"),
        (("rate=5",), "give one of --tier, --user and --global"),
        (("--user", "a\nb", "running=1"), "user: has control characters"),
        (("--tier", "free", "--user", "ann", "rate=5"), "give one of --tier, --user and --global"),
    ],
)
def test_a_limit_that_is_wrong_is_refused_and_nothing_is_set(place: Place, words: tuple[str, ...], says: str) -> None:
    ended = place.haul("limits", "set", *words)
    assert ended.code == 2
    assert says in ended.err
    assert place.services.store.limits() == {}


def test_a_user_s_limits_and_what_he_has_of_them_are_shown_alike_everywhere(place: Place, valkey: Server, key_prefix: str) -> None:
    place.write("[tiers.free]\nrate = 5\nburst = 9\nqueued = 3\nrequests = 0.001\nrequests_burst = 4\nbytes_a_day = '1 GiB'\n")
    until(lambda: place.services.tiers.fresh().of("free", "ann").queued == 3, "the file is read")
    for _ in range(3):
        place.add(user="ann/1")
    by_http = place.http.get("/v1/limits/ann%2F1").raise_for_status().json()
    LimitsView.model_validate(by_http)
    assert (by_http["user"], by_http["tier"], by_http["running"], by_http["queued"], by_http["bytes_today"]) == ("ann/1", "free", 0, 3, 0)
    assert by_http["limits"]["queued"] == 3
    assert by_http["requests"][0]["tokens"] == pytest.approx(1, abs=0.1)
    assert by_http["starts"][0]["tokens"] == 9
    assert "ann/1 has 3 jobs waiting" in by_http["refusal"]
    assert by_http["next_request_in_s"] == 30
    assert by_http["next_start_in_s"] == 0
    on_the_line = place.json("limits", "show", "ann/1")
    assert {**on_the_line, "day_ends_in_s": 0, "requests": 0} == {**by_http, "day_ends_in_s": 0, "requests": 0}
    assert "queued                 3 of 3" in place.haul("limits", "show", "ann/1").out
    with Client(valkey.url, str(place.http.base_url), prefix=key_prefix) as bot:
        assert bot.limits("ann/1")["queued"] == 3
        assert bot.limits("ann/1", tier="vip")["limits"]["weight"] == 4
        with pytest.raises(Rejected, match="there is no tier 'gold'"):
            bot.limits("ann/1", tier="gold")


def test_a_user_nobody_has_seen_has_the_limits_of_the_tier_free(place: Place) -> None:
    shown = place.http.get("/v1/limits/nobody").raise_for_status().json()
    assert (shown["tier"], shown["queued"], shown["refusal"], shown["next_request_in_s"]) == ("free", 0, None, 0)
    assert place.http.get("/v1/limits/nobody?colour=red").status_code == 422


def test_all_limits_in_force_are_shown(place: Place) -> None:
    place.haul("limits", "set", "--user", "ann", "running=2")
    place.haul("limits", "set", "--global", "running=100")
    shown = place.json("limits", "show")
    assert shown["tiers"]["free"]["running"] == 7
    assert (shown["users"], shown["global"]["running"], shown["fault"]) == ({"ann": {"running": 2}}, 100, None)
    words = place.haul("limits", "show").out
    assert "tier free " in words
    assert "user ann " in words


def test_a_file_with_a_mistake_changes_nothing_and_is_shown_by_line_and_field(place: Place) -> None:
    place.write("[tiers.free]\nrunning = 7\nweight = 0\n")
    says = f"HAUL_TIERS: {place.file}, line 3, tiers.free.weight: 0 is not such a number"
    fault = until(lambda: place.http.get("/v1/limits/ann").json()["fault"], "the mistake is seen")
    assert fault.startswith(says)
    assert place.services.tiers.of("free", "ann").running == 7
    assert place.add().status_code == 201
    for words in (("health",), ("limits", "show")):
        ended = place.haul(*words)
        assert ended.code == 3
        assert says in ended.out + ended.err
    ready = place.http.get("/ready").json()
    assert ready["checks"]["limits"]["ok"], "the old limits are in force"
    assert ready["checks"]["limits"]["error"].startswith(says)
    for role in ("supervise", "api"):
        ended = place.haul(role)
        assert (ended.code, ended.err.startswith(f"haul: {says}")) == (2, True), "nothing starts with it"


def test_without_redis_a_user_s_jobs_are_still_shown_and_the_tokens_are_not_known(place: Place) -> None:
    class Away:
        def tokens(self, _asked: object) -> list[float]:
            raise Transient("redis", "is away")

    coordinator: Any = Away()
    shown = pipeline.allowance(replace(place.services, coordinator=coordinator), "ann")
    assert shown["starts"][0]["tokens"] is None
    assert shown["next_start_in_s"] is None
    assert shown["queued"] == 0


# ---- the budget of bandwidth ------------------------------------------------------------------------------------------


def test_a_budget_is_set_and_taken_back_by_http_and_on_the_command_line(place: Place) -> None:
    seen = place.json("bandwidth", "set", "50 MiB; Mon-Fri 08:00-18:00 10 MiB")
    assert (seen["schedule"], seen["from"], seen["timezone"]) == ("50 MiB; Mon-Fri 08:00-18:00 10 MiB", "run time", "UTC")
    assert {seen["rate"], seen["next_rate"]} == {50 << 20, 10 << 20}
    assert place.http.get("/v1/bandwidth").raise_for_status().json()["schedule"] == seen["schedule"]

    by_http = place.http.put("/v1/bandwidth", json={"schedule": "2 MiB"}).raise_for_status().json()
    BandwidthView.model_validate(by_http)
    assert (by_http["rate"], by_http["next_at"], by_http["in_force"]) == (2 << 20, None, False), "no engine has been seen"
    until(lambda: place.services.tiers.fresh().schedule == "2 MiB", "it is in force in processes that run")
    assert "2.0 MiB/s at" in place.haul("bandwidth", "show").out

    assert place.json("bandwidth", "clear")["schedule"] is None
    assert place.http.put("/v1/bandwidth", json={"schedule": None}).json()["from"] is None
    until(lambda: place.services.tiers.fresh().schedule is None, "and is taken back")


@pytest.mark.parametrize(
    ("schedule", "named"),
    [
        ("fast", "'fast'"),
        ("  ", "is empty"),
        ("1 MiB; Mon-Fri 08:00-18:00 2 MiB; Wed 17:59-19:00 3 MiB", "'Mon-Fri 08:00-18:00 2 MiB' and 'Wed 17:59-19:00 3 MiB' overlap"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_refused_with_its_field_and_what_is_wrong(place: Place, schedule: str, named: str) -> None:
    answer = place.http.put("/v1/bandwidth", json={"schedule": schedule})
    assert (answer.status_code, answer.json()["field"]) == (422, "schedule")
    assert named in answer.json()["detail"]
    ended = place.haul("bandwidth", "set", schedule)
    assert (ended.code, named in ended.err) == (2, True), ended.err
    assert place.services.store.limits() == {}


def test_a_speed_of_its_own_is_taken_by_every_door_and_shown(place: Place) -> None:
    assert place.add(max_speed="2M").json()["max_speed"] == 2_000_000
    refused = place.add(max_speed="slow")
    assert (refused.status_code, refused.json()["field"]) == (422, "max_speed")
    [job] = place.json("add", URI, "--max-speed", "500 KiB")
    assert job["max_speed"] == 512_000
    assert "max_speed" in place.haul("add", URI, "--max-speed", "none").err


def test_what_the_tiers_take_of_their_bandwidth_is_shown_over_all_engines(place: Place) -> None:
    assert place.haul("limits", "set", "--tier", "free", "bandwidth=3 MiB/s").code == 0
    until(lambda: place.services.tiers.fresh().of("free", "").bandwidth == 3 << 20, "it is read")
    for name, running in (("aria2", 1), ("qbittorrent", 2)):
        told = {"tier:free": {"hungry": running, "modest": 1, "wants": 10.0, "speed": 1000}}
        place.services.coordinator.put_snapshot(EngineSnapshot(name, 1, (), "/", None, 1, 0, 0, 0.0, "o", budgets=told, zone="UTC"))
    shown = place.http.get("/v1/bandwidth").json()
    assert shown["budgets"] == [{"budget": "tier:free", "rate": 3 << 20, "running": 5, "speed": 2000}]
    assert "5 downloads" in place.haul("bandwidth", "show").out
