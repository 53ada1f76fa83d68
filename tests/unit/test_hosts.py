"""At most so many jobs download from one server at once; the others' slots are not kept free for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pair import Pair
from tests.unit.jobs_by_hypothesis import a_job
from worker import pipeline
from worker.admission.hosts import Hosts
from worker.jobs.model import Source, SourceKind
from worker.jobs.source import host_of
from worker.jobs.states import Action, Reason, State


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("https://User:secret@Files.Example.ORG.:8443/a?b", "files.example.org"),
        ("ftp://[2001:DB8::1]/x", "2001:db8::1"),
        ("http:///x", None),
        ("http://[x/", None),
        ("magnet:?xt=urn:btih:00&tr=http://host/", None),
        ("torrent:00", None),
    ],
)
def test_the_server_is_the_one_that_the_address_names(uri: str, host: str | None) -> None:
    assert host_of(uri) == host


def test_a_job_waits_while_as_many_as_may_download_from_its_server() -> None:
    hosts = Hosts.of(2, {"http://a/1": 1, "https://A:8443/2": 1, "http://b/": 1, "magnet:?tr=http://b/": 5})
    assert hosts.running == Counter(a=2, b=1)
    jobs = {name: a_job(source=Source(SourceKind.HTTP, f"http://{name}/3")) for name in "abc"}
    wait = hosts.wait(jobs["a"])
    assert wait is not None
    assert (wait.reason, wait.text) == (Reason.SLOTS, "2 jobs download from a, as many as may at once")
    assert hosts.wait(jobs["b"]) is None
    hosts.took(jobs["b"])
    assert hosts.wait(jobs["b"]) is not None
    assert hosts.wait(jobs["c"]) is None


def test_without_a_limit_nothing_waits_and_nothing_is_counted() -> None:
    hosts, job = Hosts(), a_job(source=Source(SourceKind.HTTP, "http://a/"))
    hosts.took(job)
    assert hosts.wait(job) is None
    assert not hosts.running


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path, slots=8, jobs_per_host=2)
    pair.tick()
    yield pair
    pair.services.close()


def ask(pair: Pair, host: str, count: int) -> list[str]:
    return [id for n in range(count) for id in pair.ask(uri=f"https://{host}/{len(host)}-{n}")]


def states(pair: Pair, ids: list[str]) -> Counter[State]:
    return Counter(pair.job(id).state for id in ids)


def test_what_waits_for_one_server_keeps_no_slot_from_the_others(pair: Pair) -> None:
    crowded, other, magnets = ask(pair, "crowded", 30), ask(pair, "other", 3), pair.ask(4)
    for _ in range(12):
        pair.admit()
        running = states(pair, crowded)[State.DOWNLOADING]
        assert running <= 2, "over both engines together"
    assert running == 2
    assert states(pair, other) == {State.DOWNLOADING: 2, State.QUEUED: 1}
    assert states(pair, magnets) == {State.DOWNLOADING: 4}
    waits = next(id for id in crowded if pair.job(id).state is State.QUEUED)
    why = pipeline.why(pair.services, waits)
    assert why.text.startswith("2 jobs download from crowded, as many as may at once")
    assert why.reason == Reason.SLOTS


def test_each_that_ends_or_is_paused_lets_the_next_one_start(pair: Pair) -> None:
    ids = ask(pair, "crowded", 6)
    pair.admit()
    first = [id for id in ids if pair.job(id).state is State.DOWNLOADING]
    assert len(first) == 2
    pipeline.control(pair.services, first[0], Action.PAUSE)
    pair.turn(times=3)
    pair.admit()
    assert states(pair, ids) == {State.PAUSED: 1, State.DOWNLOADING: 2, State.QUEUED: 3}
    pipeline.control(pair.services, first[0], Action.RESUME)
    for _ in range(12):
        for engine in pair.engines.values():
            engine.advance(1 << 20)
        pair.turn()
        pair.finish()
        pair.admit()
        assert states(pair, ids)[State.DOWNLOADING] <= 2
    assert states(pair, ids) == {State.DONE: 6}
