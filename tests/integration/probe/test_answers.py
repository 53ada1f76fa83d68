"""Answers of sources that are kept for a moment, and for whom."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.answers import answering, resolving, said
from tests.integration.doors import accepted, now, services_on, until
from tests.origin import LAST_MODIFIED, Origin
from worker import pipeline
from worker.admission import ask as asking
from worker.cli.servers import Server
from worker.jobs.probe import Probe
from worker.jobs.states import Cause
from worker.ports import Kind, Services, Step


def probed(services: Services, *uris: str, user: str = "ann", **spec: Any) -> list[Probe | None]:
    jobs = [accepted(services, uri, **{**spec, "user": user}) for uri in uris]
    pipeline.run(services, Step.PROBE)
    return [now(services, job).probe for job in jobs]


@pytest.fixture
def elsewhere(valkey: Server, key_prefix: str, tmp_path: Path, services: Services) -> Iterator[Services]:
    """Another process on the same records."""
    with services_on(valkey.url, key_prefix, tmp_path, allow_networks="127.0.0.1/32", probe="always") as other:
        yield other


def live(services: Services) -> None:
    services.cache.get(Kind("any", 60.0, shared=False), "x", lambda: 1)
    until(lambda: services.cache.stats().live, "the subscription")


def test_a_link_that_many_are_sent_is_asked_for_once_by_all_processes(services: Services, elsewhere: Services, origin: Origin) -> None:
    live(services), live(elsewhere)
    uri = origin.url("file/posted?size=77")
    told = [probed(services, uri, user=f"user {number}")[0] for number in range(5)]
    told += [probed(elsewhere, uri, user=f"other {number}")[0] for number in range(5)]
    assert told == [Probe(77, '"77-0"', LAST_MODIFIED)] * 10
    assert origin.probes["/file/posted"] == 1


def test_a_source_that_says_nothing_is_not_asked_again_at_once(services: Services, origin: Origin) -> None:
    live(services)
    before = origin.probes["/status/404"]
    assert probed(services, origin.url("status/404?k=1")) == [Probe()]
    asked = origin.probes["/status/404"]
    assert asked > before
    assert probed(services, origin.url("status/404?k=1"), user="bob") == [Probe()]
    assert origin.probes["/status/404"] == asked


def test_a_file_that_was_replaced_is_a_new_one_within_seconds(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.reads.PROBE", Kind("probe", 0.5, negative_s=0.5))
    sizes = [b"1", b"four"]
    with answering(lambda connection: connection.sendall(said(sizes[0]))) as url:
        plain = url.removesuffix(".torrent")
        assert probed(services, plain) == [Probe(1)]
        sizes.reverse()
        begun = time.monotonic()
        until(lambda: probed(services, plain) == [Probe(4)], "the new one")
        assert time.monotonic() - begun < 0.5 + 2.0, "the bound, and one look"


def test_an_answer_behind_a_password_is_for_its_user_alone_and_no_url_is_kept(
    services: Services, origin: Origin, valkey: Server, key_prefix: str
) -> None:
    from redis import Redis

    live(services)
    uri = origin.url("file/private?size=5&token=hunter2").replace("http://", "http://ann:hunter2@")
    for user in ("ann", "ann", "bob"):
        assert probed(services, uri, user=user)[0] == Probe(5, '"5-0"', LAST_MODIFIED)
    assert origin.probes["/file/private"] == 2, "bob asked for himself"
    with Redis.from_url(valkey.url) as raw:
        keys = [key.decode() for key in raw.scan_iter(f"{key_prefix}:cache:*")]
        kept = [str(raw.get(key)) for key in keys if ":cache:e:" in key]
    assert any(":cache:e:probe:" in key for key in keys)
    assert not [text for text in (*keys, *kept) if "hunter2" in text or "private" in text or "127.0.0.1" in text]


def test_what_the_owner_may_reach_says_nothing_of_what_a_guarded_job_may(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, {"public.example": ["127.0.0.2"]})
    with answering(lambda connection: connection.sendall(said(b"12345")), "127.0.0.2") as url:
        named = url.replace("127.0.0.2", "public.example").removesuffix(".torrent")
        owned = accepted(services, named, owner=True)
        pipeline.run(services, Step.PROBE)
        assert now(services, owned).probe == Probe(5)
        guarded = accepted(services, named)
        pipeline.run(services, Step.PROBE)
    assert now(services, guarded).cause is Cause.REFUSED


def test_a_refusal_or_a_failure_is_asked_anew_each_time(services: Services, hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = asking.ask

    def counting(uri: str, allowed: Any) -> Any:
        asked.append(uri)
        return real(uri, allowed)

    monkeypatch.setattr("worker.admission.hops.ask", counting)
    for user in ("ann", "bob"):
        probed(services, "http://127.0.0.1:9/closed", user=user)
    assert len(asked) == 2
