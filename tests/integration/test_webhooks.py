"""Webhooks over real HTTP: what is posted, what an answer does, and what one receiver cannot do to another."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from examples import webhook_receiver
from tests.receivers import HANG, RESET, Receiver
from worker.coordination.fake import FakeCoordinator
from worker.failpoints import FailpointHit, Failpoints
from worker.jobs.errors import Transient
from worker.jobs.events import EventType
from worker.jobs.hooks import FIRST, Hook, receiver_of
from worker.jobs.model import Job, Source, SourceKind
from worker.jobs.states import State
from worker.metrics import Metrics
from worker.notify import outbox, receiver, webhook
from worker.notify.stream import StreamNotifier
from worker.ports import Change, Services, Step
from worker.settings import load
from worker.store.sqlite.store import SqliteStore

SECRET = "a secret of the stack"
START = 1_000_000.0


class Nudges:
    def __init__(self) -> None:
        self.sent: list[Step] = []

    def nudge(self, step: Step) -> None:
        self.sent.append(step)


class Desk:
    """A store with a clock of the test's, and the services that post from it to some receivers."""

    def __init__(self, directory: Path, *addresses: str, secret: str = SECRET) -> None:
        self.now = START
        self.store = SqliteStore(directory / "haul.db", clock=lambda: self.now)
        self.redis = FakeCoordinator()
        self.metrics = Metrics()
        self.nudges = Nudges()
        settings = load(data_dir=directory, webhooks=",".join(addresses), webhook_secret=secret)
        parts = {"store": self.store, "coordinator": self.redis, "metrics": self.metrics, "nudger": self.nudges, "settings": settings}
        clock = SimpleNamespace(time=time.time)
        self.services = cast(Services, SimpleNamespace(**parts, failpoints=Failpoints(), clock=clock, owner="test"))

    def failpoint(self, spec: str) -> None:
        self.services.failpoints = Failpoints(spec)  # type: ignore[misc]

    def job(self, id: str, events: int = 1, receiver: str = FIRST) -> str:
        """Record a job with so many events; its id."""
        job = Job(id, "u", None, Source(SourceKind.HTTP, "https://secret:word@host/x"), "c", version=0, hook=Hook(receiver, "host"))
        for _ in range(events):
            job = job.noted(1.0, "happened", event=EventType.QUEUED, data={"ü": 1})
        self.store.insert([replace(job, version=events)])
        return id

    def hook(self, id: str) -> Hook:
        hook = self.store.get([id])[id].hook
        assert hook is not None
        return hook

    def drain(self) -> int:
        return webhook.drain(self.services, 100)

    def posts(self, outcome: str) -> float:
        return self.metrics.registry.get_sample_value("haul_webhook_post_seconds_count", {"outcome": outcome}) or 0.0

    def close(self) -> None:
        self.store.close()


@pytest.fixture
def good() -> Iterator[Receiver]:
    with Receiver(SECRET) as receiver:
        yield receiver


@pytest.fixture
def other() -> Iterator[Receiver]:
    with Receiver(SECRET) as receiver:
        yield receiver


@pytest.fixture
def desk(tmp_path: Path, good: Receiver, other: Receiver) -> Iterator[Desk]:
    with closing(Desk(tmp_path, good.url, other.url)) as desk:
        yield desk


# ---- what is posted ----------------------------------------------------------------------------------------------


def test_each_event_is_a_post_of_its_own_signed_and_in_order(desk: Desk, good: Receiver) -> None:
    desk.job("a", events=3)
    assert desk.drain() == 1
    good.check()
    assert [post.event["id"] for post in good.posts] == ["a:1", "a:2", "a:3"]
    first = good.posts[0]
    assert first.event == {"id": "a:1", "type": "job.queued", "job": "a", "user": "u", "key": None, "at": 1.0, "text": "happened", "ü": 1}
    assert (first.headers["Haul-Event-Id"], first.headers["Content-Type"], first.path) == ("a:1", "application/json", "/hook?token=hunter2")
    assert all(post.genuine for post in good.posts)
    assert desk.hook("a") == Hook(FIRST, "host", sent=3)
    assert desk.posts("taken") == 3
    assert desk.drain() == 0


def test_a_job_is_told_to_the_receiver_it_names(desk: Desk, good: Receiver, other: Receiver) -> None:
    desk.job("a", receiver=receiver_of(other.url))
    desk.job("b", receiver=receiver_of(good.url))
    desk.job("c")
    assert desk.drain() == 3
    assert [post.event["job"] for post in other.posts] == ["a"]
    assert {post.event["job"] for post in good.posts} == {"b", "c"}


def test_without_a_secret_nothing_is_signed(tmp_path: Path, good: Receiver) -> None:
    with closing(Desk(tmp_path, good.url, secret="")) as desk:
        desk.job("a")
        desk.drain()
    assert "Haul-Signature" not in good.posts[0].headers


def test_a_user_and_a_password_in_the_address_are_sent(tmp_path: Path, good: Receiver) -> None:
    with closing(Desk(tmp_path, good.url.replace("//", "//us%40er:pass@"))) as desk:
        desk.job("a")
        desk.drain()
    assert good.posts[0].headers["Authorization"] == "Basic dXNAZXI6cGFzcw=="


def test_without_receivers_nothing_is_asked_of_the_store(tmp_path: Path) -> None:
    with closing(Desk(tmp_path)) as desk:
        desk.store.close()
        assert desk.drain() == 0
        assert not webhook.waits(desk.services)


def test_a_receiver_that_is_taken_from_the_settings_is_told_when_it_is_back(tmp_path: Path, good: Receiver, other: Receiver) -> None:
    (tmp_path / "d").mkdir()
    with closing(Desk(tmp_path / "d", other.url)) as without:
        without.job("a", receiver=receiver_of(good.url))
        assert without.drain() == 0
        assert not webhook.waits(without.services)
    with closing(Desk(tmp_path / "d", other.url, good.url)) as again:
        assert again.drain() == 1
    assert [post.event["id"] for post in good.posts] == ["a:1"]


def test_the_outbox_nudges_for_jobs_with_something_to_post(desk: Desk) -> None:
    desk.services.notifier = StreamNotifier(desk.redis)  # type: ignore[misc]
    desk.job("a")
    outbox.drain(desk.services, 100)
    assert desk.nudges.sent == [Step.WEBHOOK]
    assert webhook.waits(desk.services)
    desk.drain()
    assert not webhook.waits(desk.services)


# ---- what an answer does -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [500, 302, 404, RESET])
def test_a_job_that_is_not_taken_is_put_off_and_holds_up_no_other(desk: Desk, good: Receiver, answer: Any) -> None:
    good.answer = lambda event: answer if event["job"] == "bad" else 204
    for id in ("a", "bad", "c"):
        desk.job(id, events=2)
    assert desk.drain() == 3
    assert (desk.hook("a").sent, desk.hook("c").sent) == (2, 2)
    bad = desk.hook("bad")
    assert (bad.sent, bad.failures, bad.failing_since) == (0, 1, pytest.approx(START, abs=20))
    assert START < bad.not_before <= START + 22
    assert len(good.of("bad")) == 1, "the second event waits for the first"
    assert desk.drain() == 0
    desk.now, good.answer = START + 60, lambda _: 204
    assert desk.drain() == 1
    assert good.types("bad") == ["queued", "queued"]
    good.check()


def test_no_redirect_is_followed(desk: Desk, good: Receiver) -> None:
    good.answer = lambda _: 307
    desk.job("a")
    desk.drain()
    assert len(good.posts) == 1


def test_after_three_days_an_event_is_given_up_told_in_the_timeline_and_the_next_one_has_its_own(desk: Desk, good: Receiver) -> None:
    good.answer = lambda event: 500 if event["id"] == "a:1" else 204
    desk.job("a", events=2)
    desk.drain()
    desk.now += webhook.GIVE_UP_S + 60
    desk.drain()
    job = desk.store.get(["a"])["a"]
    assert [event.text for event in job.events if event.type is None] == [
        f"the webhook at 127.0.0.1:{good.port} did not take job.queued, which is given up"
    ]
    assert desk.metrics.registry.get_sample_value("haul_webhook_events_given_up_total") == 1
    assert good.types("a") == ["queued"]
    assert desk.hook("a") == Hook(FIRST, "host", sent=2)


def test_a_receiver_that_says_gone_is_not_asked_for_the_same_event_again(desk: Desk, good: Receiver) -> None:
    good.answer = lambda _: webhook.GONE
    desk.job("a")
    desk.drain()
    assert desk.drain() == 0
    assert len(good.posts) == 1
    assert desk.hook("a").sent == 1


def test_an_event_is_given_up_only_together_with_its_line(desk: Desk, good: Receiver) -> None:
    good.answer = lambda _: webhook.GONE
    id = desk.job("a")
    old = desk.store.get([id])[id]
    apply = desk.store.apply

    def overtaken(changes: Any) -> Any:
        desk.store.apply = apply  # type: ignore[method-assign]
        apply([Change(old, old.moved(State.PAUSED, 2.0, "paused"))])
        return apply(changes)

    desk.store.apply = overtaken  # type: ignore[method-assign, assignment]
    desk.drain()
    assert [event.text for event in desk.store.get([id])[id].events][1] == "paused"
    assert len([event for event in desk.store.get([id])[id].events if "given up" in event.text]) == 1
    assert desk.hook(id).sent == 1


# ---- receivers that are down -------------------------------------------------------------------------------------


def test_a_receiver_that_is_down_is_left_alone_and_others_are_told(
    desk: Desk, good: Receiver, other: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "ANSWER_S", 3.0)
    good.answer = lambda _: HANG
    for n in range(50):
        desk.job(f"dead{n}")
        desk.job(f"live{n}", receiver=receiver_of(other.url))
    desk.drain()
    assert {desk.hook(f"live{n}").sent for n in range(50)} == {1}
    assert min(post.at for post in other.posts) < good.posts[0].at + receiver.ANSWER_S, "they are told at the same time"
    asked = len(good.posts)
    assert asked <= 2 * webhook.POSTS_MAX
    assert sum(desk.hook(f"dead{n}").failures for n in range(50)) == asked, "those that were not asked are not put off"
    desk.now += 60
    desk.job("new")
    assert desk.drain() == 0
    assert len(good.posts) == asked, "it rests"
    good.answer = lambda _: 204
    desk.services.coordinator = FakeCoordinator()  # type: ignore[misc]
    desk.drain()
    assert {desk.hook(f"dead{n}").sent for n in range(50)} == {1}
    good.check()


def test_a_receiver_that_trickles_is_hung_up_on(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "ANSWER_S", 1.0)
    ending = threading.Event()

    def trickle(server: socket.socket) -> None:
        line, _ = server.accept()
        with line:
            while not ending.wait(0.1):
                try:
                    line.sendall(b"H")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=trickle, args=(server,))
        thread.start()
        begun = time.monotonic()
        assert receiver.Receiver(f"http://127.0.0.1:{server.getsockname()[1]}/", SECRET).post("a:1", b"{}", 1.0) is None
        assert time.monotonic() - begun < 30
        ending.set()
        thread.join()


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/", "http://no-such-host.invalid/", "http://127.0.0.1:1/%zz"])
def test_nobody_there_is_no_answer(address: str) -> None:
    assert receiver.Receiver(address, SECRET).post("a:1", b"{}", 1.0) is None


def test_what_a_store_that_is_away_could_not_mark_is_posted_again_under_the_same_id(desk: Desk, good: Receiver) -> None:
    desk.job("a")
    mark = desk.store.mark_posted

    def away(*_: Any) -> None:
        desk.store.mark_posted = mark  # type: ignore[method-assign]
        raise Transient("store", "away")

    desk.store.mark_posted = away  # type: ignore[method-assign]
    with pytest.raises(Transient):
        desk.drain()
    assert desk.drain() == 1
    assert [post.event["id"] for post in good.posts] == ["a:1", "a:1"]


@pytest.mark.parametrize(("point", "posts"), [("webhook.post", 1), ("webhook.mark", 2)])
def test_whatever_is_stopped_between_post_and_mark_nothing_is_lost(desk: Desk, good: Receiver, point: str, posts: int) -> None:
    desk.job("a")
    desk.failpoint(f"{point}:raise:1")
    with pytest.raises(FailpointHit):
        desk.drain()
    assert desk.drain() == 1
    assert [post.event["id"] for post in good.posts] == ["a:1"] * posts


def test_one_process_at_a_time_posts_to_a_receiver(desk: Desk, good: Receiver) -> None:
    desk.job("a", events=2)
    asked, held = threading.Event(), threading.Event()

    def slow(_: Any) -> int:
        asked.set()
        assert held.wait(60)
        return 204

    good.answer = slow
    first = threading.Thread(target=desk.drain)
    first.start()
    assert asked.wait(60)
    assert desk.drain() == 0
    held.set()
    first.join()
    assert [post.event["id"] for post in good.posts] == ["a:1", "a:2"]


def test_a_turn_that_has_more_to_tell_than_time_asks_for_another(desk: Desk, good: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "STEP_BUDGET_S", 0.2)

    def slow(_: Any) -> int:
        time.sleep(0.1)
        return 204

    good.answer = slow
    for n in range(100):
        desk.job(f"j{n}")
    assert 0 < desk.drain() < 100
    assert desk.nudges.sent == [Step.WEBHOOK]


# ---- TLS and the example -----------------------------------------------------------------------------------------


def test_a_receiver_is_reached_by_https_only_when_this_machine_trusts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    alternative = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make, *alternative], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Receiver(SECRET) as there:
        assert there._server is not None
        there._server.socket = context.wrap_socket(there._server.socket, server_side=True)
        address = there.url.replace("http:", "https:")
        assert receiver.Receiver(address, SECRET).post("a:1", b'{"id": "a:1", "job": "a"}', time.time()) is None
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert receiver.Receiver(address, SECRET).post("a:1", b'{"id": "a:1", "job": "a"}', time.time()) == 204
        assert there.posts[0].genuine


def test_the_example_takes_what_is_genuine_once_and_refuses_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = webhook_receiver.Receiver(0, SECRET)
    example.timeout = 10
    threading.Thread(target=example.serve_forever, args=(0.02,), daemon=True).start()
    address = f"http://127.0.0.1:{example.server_port}/events"
    with closing(Desk(tmp_path, address)) as desk:
        desk.job("a", events=2)
        assert desk.drain() == 1
        assert desk.hook("a").sent == 2
    ours, theirs = receiver.Receiver(address, SECRET), receiver.Receiver(address, "another")
    body = b'{"id": "a:1", "type": "job.queued", "job": "a", "text": "happened"}'
    assert ours.post("a:1", body, time.time()) == 204
    assert ours.post("a:1", body, time.time() - 1_000) == 403, "somebody's recording"
    assert theirs.post("a:1", body, time.time()) == 403
    assert receiver.Receiver(address, "").post("a:1", body, time.time()) == 403
    example.shutdown()
    example.server_close()
    assert capsys.readouterr().out.splitlines() == ["job.queued a happened"] * 2
