"""The doors: the client of a bot, a Celery application that knows nothing of us, and the same key asked for again and again."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from celery import Celery

from tests.e2e.stack import Stack, digest, eventually, sha256
from tests.origin import content
from tests.torrents import bencode, pack, web_seeded
from worker import pipeline
from worker.api.server import serve
from worker.client import Client, Rejected
from worker.jobs.errors import Conflict
from worker.jobs.model import job_id
from worker.jobs.requests import parse

SIZE = 50_000


def _listing(*files: Mapping[str, Any]) -> bytes:
    """A torrent of these files."""
    return bencode({"info": {"name": "x", "piece length": 32_768, "pieces": bytes(20), "files": files}})


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.redis.url) as opened:
        yield opened


@pytest.fixture
def bot(stack: Stack) -> Iterator[Celery]:
    """A Celery application with nothing of ours but the broker's address."""
    app = Celery("bot", broker=stack.redis.url, set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def place(stack: Stack) -> str:
    """The place behind all events so far."""
    return str(stack.services.coordinator.read_events(None, 1, 0)[1])


def send(bot: Celery, **request: Any) -> None:
    """As `examples/plain_celery.py` does."""
    bot.send_task("haul.enqueue", kwargs=request, queue="haul.control", ignore_result=True, retry=False)


def heard(client: Client, user: str, place: str, last: str) -> list[dict[str, Any]]:
    """The user's events from a place on, until one of a type."""
    events = []
    for event in client.events(user=user, after=place, wait_s=20):
        events.append(event)
        if event["type"] == last:
            return events
    raise AssertionError(f"no {last} among {events}")


def test_one_key_asked_for_at_every_door_at_once_is_one_job_and_one_download(
    stack: Stack, client: Client, bot: Celery, user: str, place: str
) -> None:
    uri = stack.origin.url(f"file/{user}?size={SIZE}")

    def ask(number: int) -> str:
        if number % 3 == 0:
            return stack.ask(uri, user, "key")
        if number % 3 == 1:
            return client.enqueue(uri, user=user, key="key").id
        send(bot, source={"uri": uri}, user=user, key="key")
        return job_id(user, "key")

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(ask, range(24)))

    [id] = ids
    stack.check_delivered(id, digest(SIZE))
    assert [event["type"] for event in heard(client, user, place, "job.completed")] == ["job.queued", "job.started", "job.completed"]
    assert ask(0) == ask(1) == ask(2) == id
    eventually(lambda: stack.services.coordinator.intake_size() == 0, "the intake is read")
    assert stack.origin.requests[f"/file/{user}"] == 1
    assert stack.job(id).attempt == 1


def test_one_key_with_another_source_is_refused_and_the_first_job_stays(
    stack: Stack, client: Client, bot: Celery, user: str, place: str
) -> None:
    first, other = (stack.origin.url(f"file/{user}-{name}?size={SIZE}") for name in ("first", "other"))
    id = stack.ask(first, user, "key")
    stack.check_delivered(id, digest(SIZE))

    [answer] = pipeline.accept(stack.services, [parse({"uri": other, "user": user, "key": "key"})])
    assert isinstance(answer, Conflict)
    assert id in str(answer)
    client.enqueue(other, user=user, key="key")
    send(bot, source={"uri": other}, user=user, key="key")

    refused = heard(client, user, place, "job.refused")[-1]
    assert (refused["job"], refused["field"]) == (id, "key")
    assert stack.job(id).state == "done"
    assert stack.origin.requests[f"/file/{user}-other"] == 0


def test_a_bot_asks_for_many_and_hears_of_each_in_order(stack: Stack, client: Client, user: str, place: str) -> None:
    specs = [{"uri": stack.origin.url(f"file/{user}-{n}?size={SIZE}&seed={n}"), "user": user, "key": n} for n in range(20)]
    tickets = client.enqueue_many(specs)
    confirmed = client.enqueue(stack.origin.url(f"file/{user}-last?size={SIZE}"), user=user, key="last", confirm_s=15)
    ids = [ticket.id for ticket in tickets] + [confirmed.id]

    heard_of: dict[str, list[str]] = {}
    for event in client.events(user=user, after=place, wait_s=20):
        heard_of.setdefault(event["job"], []).append(event["type"])
        if sum("job.completed" in types for types in heard_of.values()) == len(ids):
            break

    assert confirmed.status == "queued"
    assert heard_of == {id: ["job.queued", "job.started", "job.completed"] for id in ids}
    jobs = stack.until_all(ids)
    assert [sha256(job.result.path) for job in jobs[:20] if job.result] == [digest(SIZE, n) for n in range(20)]


def test_what_a_bot_asks_for_takes_effect_in_the_order_in_which_it_asked(stack: Stack, client: Client, user: str) -> None:
    ids = []
    for n in range(20):
        uri = stack.origin.url(f"file/{user}-{n}?size=20000000&rate=200000")
        ids.append(client.enqueue(uri, user=user, key=n).id)
        for action in ("pause", "resume", "pause", "resume", "pause" if n % 2 else "cancel"):
            client.control(ids[-1], action)

    eventually(lambda: stack.services.coordinator.intake_size() == 0, "the intake is read")
    assert len(stack.services.store.get(ids)) == 20
    for n, id in enumerate(ids):
        stack.until(id, "paused" if n % 2 else "cancelled")
    stack.cancel_all(ids)
    for id in ids:
        stack.check_gone(stack.until(id, "cancelled"))


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ({"uri": "gopher://host/file"}, "uri"),
        ({"uri": "http://10.0.0.1/file"}, "uri"),
        ({"wrong": 1}, "uri"),
        ("no object", "uri"),
    ],
)
def test_what_a_bot_without_our_package_gets_wrong_is_told_by_an_event(
    stack: Stack, client: Client, bot: Celery, user: str, place: str, source: Any, field: str
) -> None:
    send(bot, source=source, user=user, key="key")

    [event] = heard(client, user, place, "job.refused")

    assert event["field"] == field
    assert event["reason"]
    job = stack.job(event["job"])
    assert (job.state, job.cause, job.key) == ("failed", "refused", "key")


def test_a_message_that_names_nobody_harms_nothing(stack: Stack, client: Client, bot: Celery, user: str) -> None:
    send(bot, source={"uri": "http://host/file"})
    send(bot, nonsense=1)
    bot.send_task("haul.enqueue", args=[1, 2], queue="haul.control", ignore_result=True)
    bot.send_task("haul.nothing-of-ours", queue="haul.control", ignore_result=True)
    stack.services.coordinator.offer(
        [
            {"kind": "request"},
            {"kind": "?"},
            {"kind": "request", "spec": {"user": "\ud800", "uri": "http://host/"}},
            {"kind": "control", "job": "x", "action": "explode"},
        ]
    )

    stack.check_delivered(client.enqueue(stack.origin.url(f"file/{user}?size={SIZE}"), user=user, confirm_s=15).id, digest(SIZE))


def test_the_client_refuses_bad_input_before_anything_is_sent(stack: Stack, client: Client, user: str) -> None:
    for wrong, field in (
        ({"uri": "ftps://host/x"}, "uri"),
        ({"uri": "magnet:?xt=urn:btih:zzz"}, "uri"),
        ({"priority": -1}, "priority"),
        ({"sha256": "abc"}, "sha256"),
        ({"name": "../x"}, "name"),
    ):
        spec: dict[str, Any] = {"uri": "http://host/file", "user": user, **wrong}
        with pytest.raises(Rejected) as refusal:
            client.enqueue(**spec)
        assert refusal.value.field == field
        assert refusal.value.fix
    assert stack.services.coordinator.intake_size() == 0


def test_a_job_for_a_private_network_is_refused_at_the_door(stack: Stack, user: str) -> None:
    [answer] = pipeline.accept(stack.services, [parse({"uri": "http://192.168.1.1/router", "user": user, "key": "key"})])

    assert isinstance(answer, Rejected)
    assert stack.services.store.get([job_id(user, "key")]) == {}


# ---- torrents ----------------------------------------------------------------------------------------------------

GOOD = pack()
ABSURD: Mapping[str, bytes] = {
    "empty": b"",
    "a web page": b"<!DOCTYPE html><html><body>please log in</body></html>",
    "cut": GOOD.document[:-200],
    "without files": bencode({"info": {"name": "x", "piece length": 32_768, "pieces": b"", "files": []}}),
    "a path that leads out": _listing({"length": 1, "path": ["..", "..", "etc", "passwd"]}),
    "an absolute path": _listing({"length": 1, "path": ["/etc/passwd"]}),
    "a name that leads out": bencode({"info": {"name": "..", "piece length": 32_768, "pieces": bytes(20), "length": 1}}),
    "a negative size": _listing({"length": -1, "path": ["x"]}),
    "nested too deep": b"d4:info" + b"l" * 100_000 + b"e" * 100_001,
    "too large": bencode({"info": {**GOOD.info, "more": bytes(10_000_000)}}),
}


@pytest.fixture(scope="module")
def api(stack: Stack) -> Iterator[str]:
    """Where the HTTP API of the stack is."""
    server = serve(stack.services, host="127.0.0.1", port=0)
    server.start()
    yield server.url
    server.stop()


@pytest.mark.parametrize("what", ABSURD)
def test_a_torrent_file_that_is_none_is_refused_in_words_at_every_door(
    stack: Stack, client: Client, api: str, user: str, what: str
) -> None:
    document = ABSURD[what]
    upload = {"torrent": base64.b64encode(document).decode(), "user": user, "key": "key"}
    begun = time.monotonic()

    with pytest.raises(Rejected) as parsed:
        parse(upload)
    with pytest.raises(Rejected) as sent:
        client.enqueue(torrent=document, user=user, key="key")
    answer = requests.post(f"{api}/v1/jobs", json=upload, timeout=40)

    assert parsed.value.field == sent.value.field == "torrent"
    assert parsed.value.fix
    assert answer.status_code in (413, 422)
    assert "torrent" in answer.text
    assert time.monotonic() - begun < 40
    assert stack.services.store.get([job_id(user, "key")]) == {}
    assert stack.services.coordinator.intake_size() == 0


def test_a_selection_outside_an_uploaded_torrent_is_refused_with_the_numbers_there_are(client: Client, api: str, user: str) -> None:
    for wrong in ("4", "1,9", "100000"):
        spec = {"user": user, "select": wrong}
        upload = base64.b64encode(GOOD.document).decode()
        with pytest.raises(Rejected, match=r"select: there is no file .* 3 files .*from 1 to 3"):
            parse({**spec, "torrent": upload})
        with pytest.raises(Rejected, match="select: there is no file"):
            client.enqueue(torrent=GOOD.document, user=user, select=wrong)
        assert requests.post(f"{api}/v1/jobs", json={**spec, "torrent": upload}, timeout=20).status_code == 422


def test_one_torrent_under_one_key_at_every_door_is_one_job_and_one_download(stack: Stack, client: Client, api: str, user: str) -> None:
    made = web_seeded(stack.origin, pack({"only": content(SIZE)}, name=f"{user}.bin", single=True))
    spec = {"torrent": base64.b64encode(made.document).decode(), "user": user, "key": "key"}

    id = stack.ask(None, **spec)
    assert client.enqueue(torrent=made.document, user=user, key="key").id == id
    answer = requests.post(f"{api}/v1/jobs", json=spec, timeout=20)
    assert (answer.status_code, answer.json()["id"]) == (200, id)

    stack.check_delivered(id, digest(SIZE), made.name)
    assert stack.origin.bytes_served[f"/doc/{made.infohash}/{made.name}"] == SIZE
    assert stack.job(id).attempt == 1
    view = requests.get(f"{api}/v1/jobs/{id}", timeout=20).json()
    assert (view["infohash"], view["files"], view["state"]) == (made.v1, 1, "done")
