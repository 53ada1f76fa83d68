"""The step that asks sources for their size: a real store, a real Valkey, real servers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.answers import answering, resolving, said
from tests.integration.doors import DEADLINE_S, accepted, now, sent, services_on, until
from tests.origin import LAST_MODIFIED, Origin
from worker import pipeline
from worker.admission import ask as asking
from worker.admission import probing as module
from worker.admission.ask import SIZE_MAX, ask
from worker.admission.guard import Canary, unproved
from worker.cli.servers import Server
from worker.engines.fake import FakeEngine
from worker.failpoints import FailpointHit, Failpoints
from worker.jobs.model import Job
from worker.jobs.probe import Probe
from worker.jobs.states import Action, Cause, Reason, State
from worker.ports import Kind, Services, Step, WaitingJob
from worker.settings import load

OPEN = None


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.fixture
def services(valkey: Server, key_prefix: str, tmp_path: Path) -> Iterator[Services]:
    with services_on(valkey.url, key_prefix, tmp_path, allow_networks="127.0.0.1/32", probe="always") as services:
        yield services


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "DEADLINE_S", 0.5)


# ---- one question ----------------------------------------------------------------------------------------------


def test_a_server_tells_size_and_validators_by_head(origin: Origin) -> None:
    found, fault = ask(origin.url("file/one?size=123456&seed=7"), OPEN)
    assert (found, fault) == (Probe(123_456, '"123456-7"', LAST_MODIFIED), None)
    assert (origin.probes["/file/one"], origin.requests["/file/one"], origin.bytes_served["/file/one"]) == (1, 0, 0)


@pytest.mark.parametrize("status", ["405 No", "403 No", "501 No", "400 No"])
def test_a_server_that_refuses_head_is_asked_for_the_first_byte(status: str) -> None:
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    asked.append(connection.recv(65_536))
                    head = asked[-1].startswith(b"HEAD")
                    part = said(b"x", "206 Partial Content", "Content-Range: bytes 0-0/5000000000", 'ETag: "strong"')
                    connection.sendall(said(b"", status) if head else part)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        found, fault = ask(f"http://127.0.0.1:{listener.getsockname()[1]}/x", OPEN)
        thread.join(DEADLINE_S)
    assert (found, fault) == (Probe(5_000_000_000, '"strong"'), None)
    assert b"Range: bytes=0-0" in asked[1]


def test_a_server_that_knows_no_sizes_tells_none_and_nothing_is_downloaded(origin: Origin) -> None:
    found, fault = ask(origin.url("nolength/big?size=50000000"), OPEN)
    assert (found, fault) == (Probe(), None)
    assert (origin.probes["/nolength/big"], origin.requests["/nolength/big"]) == (2, 0)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (said(b"x" * 3, "200 OK", 'ETag: W/"weak"'), Probe(3)),
        (said(b"x" * 3, "200 OK", "ETag: unquoted", "Last-Modified: Tue"), Probe(3, None, "Tue")),
        (said(b"x" * 3, "200 OK", "ETag: " + '"' + "x" * 300 + '"'), Probe(3)),
        (said(b"x" * 3, "200 OK", "Content-Encoding: gzip"), Probe()),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", Probe()),
        (said(b"", "404 Not Found"), Probe()),
        (said(b"", "500 Oh"), Probe()),
        (said(b"", "206 Partial Content", "Content-Range: bytes 0-0/*"), Probe()),
    ],
)
def test_what_is_no_size_and_no_strong_validator_is_not_taken_for_one(answer: bytes, found: Probe) -> None:
    with answering(lambda connection: connection.sendall(answer)) as url:
        assert ask(url, OPEN) == (found, None)


@pytest.mark.parametrize("announced", ["9000000000000000000", "9" * 5_000])
@pytest.mark.parametrize("head", ["200 OK\r\nContent-Length: {}", "206 Partial\r\nContent-Length: 1\r\nContent-Range: bytes 0-0/{}"])
def test_a_length_that_no_disk_has_is_one_that_fits_nowhere(head: str, announced: str) -> None:
    """aria2 dies of it, with all its downloads, and again after each start."""
    answer = f"HTTP/1.1 {head.format(announced)}\r\n\r\n".encode()
    with answering(lambda connection: connection.sendall(answer)) as url:
        assert ask(url, OPEN) == (Probe(SIZE_MAX), None)


def test_credentials_go_to_their_host_only_and_redirects_are_followed(origin: Origin) -> None:
    url = origin.url("auth/x?user=a&password=b&size=77")
    assert ask(url, OPEN)[0].size is None
    assert ask(url.replace("http://", "http://a:b@"), OPEN)[0].size == 77
    assert ask(origin.url("redirect/3/file/y?size=78"), OPEN)[0].size == 78
    with answering(lambda connection: connection.sendall(said(b"", "302 Found", f"Location: {url}"))) as other:
        assert ask(other.replace("http://", "http://a:b@"), OPEN)[0].size is None


def test_a_server_that_says_nothing_is_waited_for_no_longer_than_the_deadline(origin: Origin, hasty: None) -> None:
    began = time.monotonic()
    found, fault = ask(origin.url("hang/x"), OPEN)
    assert time.monotonic() - began < 2
    assert found == Probe()
    assert fault
    assert fault.cause is Cause.UNREACHABLE


def test_each_hop_is_looked_at_by_the_guard(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, {"public.example": ["127.0.0.2"]})
    with answering(lambda connection: connection.sendall(said(b"12345")), "127.0.0.2") as private:
        named = private.replace("127.0.0.2", "public.example")
        found, fault = ask(named, ())
        assert found == Probe()
        assert fault
        assert fault.cause is Cause.REFUSED
        assert ask(named, OPEN)[0].size == 5


# ---- the step --------------------------------------------------------------------------------------------------


def test_a_job_is_admitted_once_its_source_was_asked(services: Services, origin: Origin) -> None:
    job = accepted(services, origin.url("file/a?size=1000"))
    assert (job.reason, services.coordinator.waiting_size()) == (Reason.PROBE, 0)
    assert pipeline.why(services, job.id).text == "its source is being asked for its size"
    steps = sent(services)
    assert Step.PROBE in steps
    assert Step.ADMIT not in steps
    pipeline.run(services, Step.PROBE)
    known = now(services, job)
    assert (known.state, known.reason, known.probe) == (State.QUEUED, Reason.TURN, Probe(1000, '"1000-0"', LAST_MODIFIED))
    assert services.coordinator.waiting_size() == 1
    assert Step.ADMIT in sent(services)


@pytest.mark.parametrize("path", ["status/404", "status/500", "nolength/x?size=5", "hang/y"])
def test_a_question_without_an_answer_fails_no_job(services: Services, origin: Origin, hasty: None, path: str) -> None:
    job = accepted(services, origin.url(path))
    pipeline.run(services, Step.PROBE)
    known = now(services, job)
    assert (known.state, known.reason, known.probe) == (State.QUEUED, Reason.TURN, Probe())


@pytest.mark.parametrize("uri", ["ftp://127.0.0.1/x", "magnet:?xt=urn:btih:" + "a1" * 20, "http://127.0.0.1/x.metalink"])
def test_other_sources_are_not_asked(services: Services, uri: str) -> None:
    assert accepted(services, uri).reason is Reason.TURN


def test_nothing_is_asked_when_the_operator_says_never(services: Services, origin: Origin) -> None:
    never = replace(services, settings=services.settings.model_copy(update={"probe": "never"}))
    job = accepted(never, origin.url("file/once?size=5"))
    assert job.reason is Reason.TURN
    pipeline.run(never, Step.PROBE)
    assert origin.probes["/file/once"] == 0


def test_a_guarded_job_whose_source_leads_into_a_private_network_is_refused(
    services: Services, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, {"public.example": ["127.0.0.2"]})
    with answering(lambda connection: connection.sendall(said(b"12345")), "127.0.0.2") as url:
        named = url.replace("127.0.0.2", "public.example").removesuffix(".torrent")
        guarded, owned = accepted(services, named), accepted(services, named, owner=True)
        pipeline.run(services, Step.PROBE)
    refused = now(services, guarded)
    assert (refused.state, refused.cause, refused.probe) == (State.FAILED, Cause.REFUSED, None)
    assert refused.message == "the server's address is in a private network (loopback)"
    assert Step.NOTIFY in sent(services)
    assert now(services, owned).probe == Probe(5)


def test_a_dead_server_holds_up_no_other_and_is_not_asked_again_at_once(
    services: Services, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "DEADLINE_S", 3.0)
    with answering(lambda _connection: time.sleep(DEADLINE_S)) as url:
        dead = [accepted(services, url.removesuffix(".torrent") + f"?{n}") for n in range(40)]
        began = time.monotonic()
        run = threading.Thread(target=lambda: pipeline.run(services, Step.PROBE))
        run.start()
        quick = accepted(services, origin.url("file/quick?size=9"))
        until(lambda: now(services, quick).probe, "the other is asked")
        assert sum(now(services, job).probe is None for job in dead) > 30, "before the dead server was given up"
        run.join(2 * DEADLINE_S)
        assert all(now(services, job).probe == Probe() for job in dead)
        assert time.monotonic() - began < 9, "it was waited for once, not five times"


def test_a_resolver_that_takes_for_ever_is_not_waited_for(services: Services, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GIVE_UP_S", 0.3)
    real, over = socket.getaddrinfo, threading.Event()

    def slow(host: str, *args: Any, **options: Any) -> Any:
        if host == "slow.example":
            over.wait(DEADLINE_S)
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    job = accepted(services, "http://slow.example/x")
    began = time.monotonic()
    assert pipeline.run(services, Step.PROBE) == 1
    assert time.monotonic() - began < DEADLINE_S / 2
    over.set()
    assert now(services, job).probe == Probe()


def test_many_jobs_are_asked_for_in_one_run(services: Services, origin: Origin) -> None:
    jobs = [accepted(services, origin.url(f"file/m{n}?size={n + 1}")) for n in range(150)]
    assert pipeline.run(services, Step.PROBE) == 150
    found = services.store.get([job.id for job in jobs])
    assert [found[job.id].probe.size for job in jobs] == [n + 1 for n in range(150)]  # type: ignore[union-attr]
    assert all(origin.probes[f"/file/m{n}"] == 1 for n in range(150))


def test_a_job_that_was_paused_meanwhile_stays_paused_and_is_asked_for_when_it_is_resumed(services: Services, origin: Origin) -> None:
    job = accepted(services, origin.url("file/paused?size=5"))
    assert pipeline.control(services, job.id, Action.PAUSE).state is State.PAUSED
    assert pipeline.run(services, Step.PROBE) == 0
    assert pipeline.control(services, job.id, Action.RESUME).reason is Reason.PROBE
    assert pipeline.run(services, Step.PROBE) == 1
    assert now(services, job).probe == Probe(5, '"5-0"', LAST_MODIFIED)
    assert pipeline.control(services, job.id, Action.PAUSE).state is State.PAUSED
    assert pipeline.control(services, job.id, Action.RESUME).reason is Reason.TURN, "it is not asked twice"


@pytest.mark.parametrize("point", ["probe.asked", "probe.recorded"])
def test_what_a_crash_leaves_is_found_by_the_sweep(services: Services, origin: Origin, point: str) -> None:
    job = accepted(services, origin.url(f"file/{point}?size=5"))
    with pytest.raises(FailpointHit):
        pipeline.run(replace(services, failpoints=Failpoints(f"{point}:raise:1")), Step.PROBE)
    for _ in range(2):
        pipeline.sweep(services)
        pipeline.run(services, Step.PROBE)
    known = now(services, job)
    assert (known.reason, known.probe) == (Reason.TURN, Probe(5, '"5-0"', LAST_MODIFIED))
    assert services.coordinator.waiting_size() == 1


def test_a_sweep_finds_what_is_to_be_asked_and_does_not_take_the_index_for_broken(
    services: Services, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuilt: list[int] = []
    monkeypatch.setattr(pipeline, "rebuild", lambda _services: rebuilt.append(1))
    accepted(services, origin.url("file/swept?size=5"))
    assert pipeline.sweep(services) == [Step.PROBE, Step.NOTIFY]
    assert rebuilt == []
    job = accepted(services, "ftp://127.0.0.1/x")
    assert {Step.PROBE, Step.ADMIT} <= {*pipeline.sweep(services)}
    services.coordinator.drop_waiting([job.id])
    pipeline.sweep(services)
    assert rebuilt == [1]


def test_admission_leaves_a_job_alone_that_is_still_to_be_asked_for(services: Services, origin: Origin) -> None:
    job = accepted(services, origin.url("file/early?size=5"))
    services.coordinator.add_waiting([WaitingJob.of(job)])
    pipeline.run(services, Step.ADMIT)
    assert now(services, job) == job
    assert services.coordinator.waiting_size() == 0


def test_one_run_is_on_at_a_time(services: Services, origin: Origin) -> None:
    accepted(services, origin.url("file/claimed?size=5"))
    assert services.coordinator.claim(module.PROBE, "another", 30)
    assert pipeline.run(services, Step.PROBE) == 0
    services.coordinator.unclaim(module.PROBE, "another")
    assert pipeline.run(services, Step.PROBE) == 1


# ---- names of what is not asked for its size ----------------------------------------------------------------------


@pytest.fixture
def checked(valkey: Server, key_prefix: str, tmp_path: Path) -> Iterator[Services]:
    with services_on(valkey.url, key_prefix, tmp_path, allow_networks="127.0.0.1/32", probe="never", egress="checked") as services:
        yield services


def looked_at(services: Services, uri: str, **spec: Any) -> Job:
    job = accepted(services, uri, **spec)
    pipeline.run(services, Step.PROBE)
    return now(services, job)


@pytest.mark.parametrize("uri", ["http://inner.example/x", "ftp://inner.example/x", "https://user:pw@inner.example/x"])
def test_without_probes_a_name_is_resolved_and_judged_before_its_job_is_admitted(
    checked: Services, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    resolving(monkeypatch, {"inner.example": ["10.1.2.3"], "open.example": ["127.0.0.1"]})
    assert accepted(checked, uri).reason is Reason.PROBE
    refused = looked_at(checked, uri)
    assert (refused.state, refused.cause) == (State.FAILED, Cause.REFUSED)
    assert refused.message == "the server's address is in a private network (private)"
    passed = looked_at(checked, uri.replace("inner", "open"))
    assert (passed.state, passed.reason) == (State.QUEUED, Reason.TURN)


def test_an_address_needs_no_look_and_the_owner_none_at_all(checked: Services) -> None:
    assert accepted(checked, "http://127.0.0.1/x").reason is Reason.TURN
    assert accepted(checked, "http://example.org/x", owner=True).reason is Reason.TURN


def test_a_name_that_cannot_be_resolved_is_looked_at_again_and_then_fails(checked: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    real = socket.getaddrinfo
    job = accepted(checked, "http://gone.example/x")
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", lambda host, *a, **o: unknown() if "gone" in host else real(host, *a, **o))
        pipeline.run(checked, Step.PROBE)
        assert now(checked, job).state is State.FAILED, "both looks are of one run, for the second is due soon"
        assert [event.text for event in now(checked, job).events][-2].endswith("it is looked at again in 1 s")
    assert (now(checked, job).cause, now(checked, job).message) == (Cause.UNREACHABLE, "the server's name cannot be resolved")


def test_a_tracker_whose_name_leads_inside_is_left_out_and_the_job_goes_on(checked: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, {"blocked.example": ["0.0.0.0"], "good.example": ["93.184.216.34"]})
    head = "magnet:?xt=urn:btih:" + "a1" * 20
    job = looked_at(checked, f"{head}&tr=http://blocked.example/a&tr=http://good.example/a", key="k")
    assert (job.state, job.reason, job.source.uri) == (State.QUEUED, Reason.TURN, f"{head}&tr=http://good.example/a")
    assert "blocked.example" in job.events[-1].text
    again = accepted(checked, f"{head}&tr=http://blocked.example/a&tr=http://good.example/a", key="k")
    assert again.id == job.id, "the same request is still known by its key"
    assert pipeline.control(checked, job.id, Action.PAUSE).state is State.PAUSED
    assert pipeline.control(checked, job.id, Action.RESUME).reason is Reason.TURN, "it is not looked at twice"


def test_where_the_kernel_guards_names_are_left_to_it(checked: Services) -> None:
    guarded = replace(checked, settings=checked.settings.model_copy(update={"egress": "guarded"}))
    assert accepted(guarded, "http://nobody-asks.example/x").reason is Reason.TURN


def test_an_allowed_address_proves_no_guard() -> None:
    open_to_all = load(engines="aria2+http://127.0.0.1:1", allow_networks="127.0.0.0/8")
    assert "cannot be tried" in str(unproved(FakeEngine("/nowhere"), open_to_all))


@pytest.mark.parametrize(
    ("addresses", "hosts"),
    [
        (["aria2+http://:s@127.0.0.1:6800/jsonrpc"], ["127.0.0.1"]),
        (["aria2+http://:s@127.0.0.1:6800/jsonrpc", "qbittorrent+http://u:p@[2001:db8::1]:8080"], []),
        (["aria2+http://:s@127.0.0.1:6800/jsonrpc", "embedded"], []),
        (["aria2+http://:s@127.0.0.1:6800/jsonrpc", "aria2+http://:s@no.such.host.invalid:6800/jsonrpc?name=b"], []),
    ],
    ids=["each", "none by IPv4", "not known yet", "not found"],
)
@pytest.mark.parametrize("by", ["list", "file"])
def test_nothing_is_proved_by_an_address_that_is_not_on_the_way_to_each_engine(
    tmp_path: Path, by: str, addresses: list[str], hosts: list[str]
) -> None:
    file = tmp_path / "engines"
    file.write_text("# ours\n" + "\n".join(addresses))
    named: dict[str, Any] = {"engines": ",".join(addresses)} if by == "list" else {"engines_file": file}
    canary = Canary(load(data_dir=tmp_path, **named))
    with canary:
        assert canary.hosts == hosts


# ---- answers that are kept for a moment --------------------------------------------------------------------------


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
