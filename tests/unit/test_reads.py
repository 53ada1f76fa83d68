"""What a write ends of the reads before it, by the cache in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from worker.coordination.cache.layered import LayeredCache
from worker.coordination.cache.memory import CacheServer, fake_cache
from worker.jobs.errors import Transient
from worker.jobs.model import Job, Request, Source, SourceKind, new_job
from worker.ports import Drain, JobStore
from worker.reads import NAMED_MAX, Forgetting, Reads
from worker.store.announcing import announcing


@pytest.fixture
def cache() -> Iterator[LayeredCache]:
    cache = fake_cache(CacheServer(), bytes_max=1 << 20, shared_bytes_max=1 << 20)
    yield cache
    cache.close()


class Seen:
    """Counts how often each read was loaded."""

    def __init__(self, cache: LayeredCache, jobs: list[Job]) -> None:
        self._reads, self._jobs, self.loaded = Reads(cache), jobs, list[str]()

    def _load(self, what: str) -> Callable[[], Any]:
        return lambda: self.loaded.append(what) or {"x": what}

    def again(self) -> list[str]:
        """Read everything; what of it had to be loaded."""
        self.loaded.clear()
        for job in self._jobs[:2]:
            self._reads.job(job.id, self._load(f"job {job.user}"))
            self._reads.jobs(job.user, (1,), self._load(f"list {job.user}"))
            self._reads.limits(job.user, None, self._load(f"limits {job.user}"))
        self._reads.jobs(None, (1,), self._load("all"))
        self._reads.overview(self._load("overview"))
        return sorted(self.loaded)


def job_of(user: str, key: str = "k") -> Job:
    return new_job(Request(Source(SourceKind.HTTP, "https://host/x"), user, key=key), 1.0)


@pytest.fixture
def jobs() -> list[Job]:
    return [job_of("ann"), job_of("bob"), *(job_of("eve", str(number)) for number in range(NAMED_MAX))]


@pytest.fixture
def seen(cache: LayeredCache, jobs: list[Job]) -> Seen:
    seen = Seen(cache, jobs)
    assert len(seen.again()) == 8
    assert seen.again() == []
    return seen


def test_a_changed_job_ends_what_is_of_it_and_its_user(cache: LayeredCache, seen: Seen, jobs: list[Job]) -> None:
    Forgetting(cache).jobs(jobs[:1])
    assert seen.again() == ["all", "job ann", "limits ann", "list ann"]


def test_many_changed_jobs_end_what_is_of_any(cache: LayeredCache, seen: Seen, jobs: list[Job]) -> None:
    Forgetting(cache).jobs(jobs[2:] + jobs[2:3])
    assert seen.again() == ["all", "job ann", "job bob", "limits ann", "limits bob", "list ann", "list bob"]


def test_progress_ends_the_job_alone(cache: LayeredCache, seen: Seen, jobs: list[Job]) -> None:
    Forgetting(cache).progress([jobs[1].id])
    assert seen.again() == ["job bob"]
    Forgetting(cache).progress([job.id for job in jobs])
    assert seen.again() == ["job ann", "job bob"]


def test_limits_and_engines_end_what_shows_them(cache: LayeredCache, seen: Seen) -> None:
    Forgetting(cache).limits()
    assert seen.again() == ["limits ann", "limits bob"]
    Forgetting(cache).engines()
    assert seen.again() == ["overview"]


def test_a_name_that_is_no_id_is_never_kept(cache: LayeredCache) -> None:
    for name in ("", "x", "z" * 23, "ü" * 24, "../" * 8):
        assert Reads(cache).job(name, lambda: {"x": 1}) is None
    assert cache.stats().entries == 0


@pytest.mark.parametrize("fails", [False, True])
def test_every_write_is_announced_even_when_nobody_knows_whether_it_was_made(seen: Seen, cache: LayeredCache, fails: bool) -> None:
    calls: list[str] = []

    class Store:
        def __getattr__(self, name: str) -> Any:
            def call(*_: Any, **__: Any) -> str:
                calls.append(name)
                if fails:
                    raise Transient("store", "the answer is lost")
                return name

            return call

    real: Any = Store()
    store: JobStore = announcing(real, Forgetting(cache))
    ann: Any = seen._jobs[0]
    change: Any = type("Change", (), {"new": ann})()
    lease: Any = None
    writes: dict[str, tuple[Callable[[], Any], str]] = {
        "insert": (lambda: store.insert([ann]), "job ann"),
        "apply": (lambda: store.apply([change], lease), "job ann"),
        "record_progress": (lambda: store.record_progress({ann.id: ann.progress}, lease), "job ann"),
        "set_limits": (lambda: store.set_limits({}), "limits ann"),
        "drain": (lambda: store.drain("aria2", Drain()), "overview"),
        "undrain": (lambda: store.undrain("aria2"), "overview"),
        "get": (lambda: store.get([]), ""),
    }
    for name, (write, ended) in writes.items():
        if fails:
            with pytest.raises(Transient):
                write()
        else:
            assert write() in (name, None)
        assert ended in seen.again() or (name == "get" and not seen.loaded)
    assert calls == list(writes)
