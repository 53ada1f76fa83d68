"""The bot's client over a real Valkey, the real intake step, and the API served for real."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.integration.doors import DEADLINE_S, services_on, snapshot, steps_running, until
from tests.torrents import pack
from worker import pipeline
from worker.api.server import serve
from worker.cli.servers import Server, free_port
from worker.client import Client, Conflict, NotFound, Rejected, Ticket, Transient
from worker.client.feed import Recent
from worker.jobs.model import job_id
from worker.jobs.states import State
from worker.ports import SWEEPER, Services, Step

URI = "https://example.org/file.iso"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def services(valkey: Server, key_prefix: str, tmp_path: Path) -> Iterator[Services]:
    with services_on(valkey.url, key_prefix, tmp_path) as services:
        yield services


@pytest.fixture
def bot(valkey: Server, key_prefix: str) -> Iterator[Client]:
    with Client(valkey.url, prefix=key_prefix) as client:
        yield client


@pytest.fixture
def api_bot(valkey: Server, key_prefix: str, services: Services) -> Iterator[Client]:
    """A client that knows the API."""
    api = serve(services, host="127.0.0.1", port=0)
    api.start()
    with Client(valkey.url, api.url, prefix=key_prefix) as client:
        yield client
    api.stop()


def told(number: int, user: str = "ann", job: str = "job") -> dict[str, Any]:
    return {"id": f"{job}:{number}", "type": "job.started", "job": job, "user": user, "key": None, "at": 1.5, "text": "it runs"}


# ---- asking ----------------------------------------------------------------------------------------------------


def test_an_accepted_request_is_recorded_under_the_id_of_its_ticket(bot: Client, services: Services) -> None:
    keyed = bot.enqueue(URI, user=42, key="chat:1", priority=3, name="x.iso", select=range(1, 4), tier="vip", seed_ratio=1.5)
    keyless = bot.enqueue(URI, user="ann")
    assert keyed == Ticket(job_id("42", "chat:1"), "accepted")
    pipeline.run(services, Step.INTAKE)
    jobs = services.store.get([keyed.id, keyless.id])
    assert set(jobs) == {keyed.id, keyless.id}
    record = jobs[keyed.id]
    assert (record.user, record.key, record.priority, record.name, record.select) == ("42", "chat:1", 3, "x.iso", (1, 2, 3))
    assert (record.tier, record.seed_ratio, record.guarded, record.state) == ("vip", 1.5, True, State.QUEUED)
    assert jobs[keyless.id].key is None


def test_the_same_key_asked_for_again_is_one_job(bot: Client, services: Services) -> None:
    tickets = {bot.enqueue(URI, user="ann", key="chat:1").id for _ in range(3)}
    pipeline.run(services, Step.INTAKE)
    tickets.add(bot.enqueue(URI, user="ann", key="chat:1").id)
    pipeline.run(services, Step.INTAKE)
    assert len(tickets) == 1
    assert services.store.counts() == {State.QUEUED: 1}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"uri": "gopher://host/x"}, "uri"),
        ({"uri": "https://host/\ud800"}, "uri"),
        ({"uri": None}, "uri"),
        ({"torrent": b"d4:infode"}, "torrent"),
        ({"uri": None, "torrent": b""}, "torrent"),
        ({"uri": None, "torrent": "text"}, "torrent"),
        ({"uri": None, "torrent": b"d4:infodee"}, "torrent"),
        ({"user": ""}, "user"),
        ({"user": True}, "user"),
        ({"priority": -1}, "priority"),
        ({"priority": object()}, "priority"),
        ({"sha256": "abc"}, "sha256"),
        ({"name": "../x"}, "name"),
        ({"engine": "a/b"}, "engine"),
        ({"select": "x"}, "select"),
        ({"seed_ratio": float("nan")}, "seed_ratio"),
        ({"category": "a/b"}, "category"),
    ],
)
def test_bad_input_is_rejected_before_anything_is_sent(bot: Client, services: Services, spec: Any, field: str) -> None:
    with pytest.raises(Rejected) as rejected:
        bot.enqueue(**{"uri": URI, "user": "ann", **spec}, confirm_s=1)
    assert (rejected.value.field, bool(rejected.value.fix)) == (field, True)
    assert services.coordinator.intake_size() == 0


def test_a_torrent_file_goes_through_the_intake_and_its_ticket_is_its_job(bot: Client, services: Services) -> None:
    made = pack(version="hybrid")
    one = bot.enqueue(user="ann", torrent=made.document, key="t", select=[1, 3])
    [two] = bot.enqueue_many([{"user": "ann", "torrent": made.document}])
    refused = bot.enqueue(user="bob", uri=pack(version="v2").magnet())
    pipeline.run(services, Step.INTAKE)
    jobs = services.store.get([one.id, two.id, refused.id])
    assert all(jobs[id].description.v1 == made.v1 for id in (one.id, two.id))  # type: ignore[union-attr]
    assert (jobs[one.id].select, jobs[refused.id].cause) == ((1, 3), "refused")
    assert [*services.store.torrents([hashlib.sha256(made.document).hexdigest()]).values()] == [made.document]
    assert services.coordinator.waiting_size() == 2


def test_a_torrent_file_is_confirmed_by_the_api(api_bot: Client, services: Services) -> None:
    with steps_running(services):
        assert api_bot.enqueue(user="ann", torrent=pack().document, key="t", confirm_s=DEADLINE_S).status == "queued"
        with pytest.raises(Conflict):
            api_bot.enqueue(user="ann", torrent=pack(version="hybrid").document, key="t", confirm_s=DEADLINE_S)


def test_a_torrent_file_of_a_mebibyte_goes_through_and_a_larger_one_is_sent_to_the_api(bot: Client, services: Services) -> None:
    document = pack().document
    bot.enqueue(user="ann", torrent=document + bytes(1024 * 1024 - len(document)))
    pipeline.run(services, Step.INTAKE)
    assert services.store.counts() == {State.QUEUED: 1}
    with pytest.raises(Rejected, match="HTTP API") as rejected:
        bot.enqueue(user="ann", torrent=document + bytes(1024 * 1024 + 1 - len(document)))
    assert rejected.value.field == "torrent"


def test_a_torrent_and_an_action_on_it_take_effect_in_their_order(bot: Client, services: Services) -> None:
    for number in range(3):
        ticket = bot.enqueue(user="ann", torrent=pack().document, key=number)
        bot.control(ticket.id, "cancel")
    pipeline.run(services, Step.INTAKE)
    assert services.store.counts() == {State.CANCELLED: 3}


def test_many_are_checked_before_any_is_sent(bot: Client, services: Services) -> None:
    good: list[dict[str, Any]] = [{"uri": URI, "user": "ann", "key": n} for n in range(150)]
    with pytest.raises(Rejected, match=r"specs\[150\]\.uri: has no scheme"):
        bot.enqueue_many([*good, {"uri": "nowhere", "user": "ann"}])
    with pytest.raises(Rejected, match="confirm_s"):
        bot.enqueue_many([{**good[0], "confirm_s": 1}])
    assert services.coordinator.intake_size() == 0
    tickets = bot.enqueue_many(good)
    assert services.coordinator.intake_size() == 150
    pipeline.run(services, Step.INTAKE)
    assert set(services.store.get([ticket.id for ticket in tickets])) == {job_id("ann", str(n)) for n in range(150)}
    assert bot.enqueue_many([]) == []


def test_many_are_sent_in_one_round_trip(valkey: Server, bot: Client, services: Services) -> None:
    bot.enqueue_many([{"uri": URI, "user": "ann"}])  # connects and loads the script
    with Redis.from_url(valkey.url) as watcher, watcher.monitor() as seen:
        bot.enqueue_many([{"uri": URI, "user": "ann"} for _ in range(100)])
        watcher.echo("end")
        commands = []
        while "end" not in (line := seen.next_command())["command"]:
            commands += [line["command"].split()[0]] if line["client_type"] != "lua" else []
        assert [command for command in commands if command not in ("HELLO", "CLIENT", "SELECT", "AUTH")] == ["EVALSHA"]


def test_a_request_wakes_the_sweeper_which_sends_the_nudge(bot: Client, services: Services) -> None:
    bot.enqueue(URI, user="ann")
    assert services.coordinator.rest(SWEEPER, 5.0), "it is woken"
    assert Step.INTAKE in pipeline.sweep(services), "and finds the message"


def test_many_threads_share_a_client(bot: Client, services: Services) -> None:
    with steps_running(services), ThreadPoolExecutor(8) as pool:
        tickets = list(pool.map(lambda n: bot.enqueue(URI, user="ann", key=n, confirm_s=DEADLINE_S), range(80)))
    assert {ticket.status for ticket in tickets} == {"queued"}
    assert services.store.counts() == {State.QUEUED: 80}


def test_without_redis_a_request_fails_in_time_and_says_so(own_valkey: Server) -> None:
    with Client(own_valkey.url) as bot:
        own_valkey.stop()
        began = time.monotonic()
        for call in (lambda: bot.enqueue(URI, user="ann", key="k", confirm_s=5), lambda: bot.control("0" * 24, "pause")):
            with pytest.raises(Transient):
                call()
        assert time.monotonic() - began < 5.0


# ---- being sure ------------------------------------------------------------------------------------------------


def test_confirmation_waits_until_the_job_is_recorded(bot: Client, services: Services) -> None:
    with steps_running(services):
        ticket = bot.enqueue(URI, user="ann", key="chat:1", confirm_s=DEADLINE_S)
    assert ticket.status == "queued"
    assert services.store.get([ticket.id])


def test_confirmation_that_does_not_come_leaves_the_request_accepted(bot: Client, services: Services) -> None:
    began = time.monotonic()
    ticket = bot.enqueue(URI, user="ann", confirm_s=0.3)
    assert ticket.status == "accepted"
    assert 0.3 <= time.monotonic() - began < 2.0
    pipeline.run(services, Step.INTAKE)
    assert services.store.get([ticket.id])


def test_a_refusal_of_the_stack_is_raised_when_confirmation_is_asked_for(bot: Client, services: Services) -> None:
    with steps_running(services):
        with pytest.raises(Rejected, match="private network") as refused:
            bot.enqueue("http://10.0.0.1/x", user="ann", confirm_s=DEADLINE_S)
        assert (refused.value.field, bool(refused.value.fix)) == ("uri", True)
        bot.enqueue(URI, user="ann", key="chat:1", confirm_s=DEADLINE_S)
        with pytest.raises(Conflict):
            bot.enqueue(URI + "?other", user="ann", key="chat:1", confirm_s=DEADLINE_S)


def test_with_the_api_a_known_key_is_confirmed_too(api_bot: Client, services: Services) -> None:
    with steps_running(services):
        for _ in range(2):
            assert api_bot.enqueue(URI, user="ann", key="chat:1", confirm_s=DEADLINE_S).status == "queued"
        with pytest.raises(Conflict):
            api_bot.enqueue("https://example.org/other", user="ann", key="chat:1", confirm_s=DEADLINE_S)
        with pytest.raises(Rejected, match="private network"):
            api_bot.enqueue("http://10.0.0.1/x", user="ann", confirm_s=DEADLINE_S)


# ---- acting ----------------------------------------------------------------------------------------------------


def test_an_action_follows_the_request_in_order(bot: Client, services: Services) -> None:
    ticket = bot.enqueue(URI, user="ann")
    for action in ("pause", "resume", "cancel", "pause"):
        bot.control(ticket.id, action)
    pipeline.run(services, Step.INTAKE)
    assert services.store.get([ticket.id])[ticket.id].state is State.CANCELLED
    assert services.coordinator.intake_size() == 0


def test_wrong_actions_and_ids_are_rejected_before_anything_is_sent(bot: Client, services: Services) -> None:
    for id, action, field in (("0" * 24, "explode", "action"), ("0" * 24, "", "action"), ("x", "pause", "id"), (None, "pause", "id")):
        with pytest.raises(Rejected) as rejected:
            bot.control(id, action)  # type: ignore[arg-type]
        assert rejected.value.field == field
    assert services.coordinator.intake_size() == 0


# ---- hearing ---------------------------------------------------------------------------------------------------


def test_events_of_a_user_come_in_order_and_only_once(bot: Client, services: Services) -> None:
    start = bot._feed.now()
    services.coordinator.publish([told(1), told(2, "bob"), told(1), told(3)])
    services.coordinator.publish([told(3), told(4)])
    seen = list(bot.events(user="ann", after=start, wait_s=0.2))
    assert [event["id"] for event in seen] == ["job:1", "job:3", "job:4"]
    assert seen[0]["text"] == "it runs"


def test_the_life_of_a_job_is_heard(bot: Client, services: Services) -> None:
    heard: list[str] = []
    start = bot._feed.now()
    with steps_running(services):
        ticket = bot.enqueue(URI, user=42, key="chat:1")
        bot.control(ticket.id, "pause")
        bot.control(ticket.id, "cancel")
        for event in bot.events(user=42, after=start, wait_s=DEADLINE_S):
            assert (event["job"], event["key"]) == (ticket.id, "chat:1")
            heard.append(event["type"])
            if event["type"] == "job.cancelled":
                break
    assert heard == ["job.queued", "job.paused", "job.cancelled"]


def test_a_reader_goes_on_from_the_place_of_the_last_event_it_dealt_with(bot: Client, services: Services) -> None:
    start = bot._feed.now()
    services.coordinator.publish([told(n) for n in range(500)])
    dealt: list[str] = []
    place = start
    while True:  # a bot that crashes after every third event
        for number, event in enumerate(bot.events(after=place, wait_s=0.1)):
            dealt.append(event["id"])
            place = event["place"]
            if number == 249:
                break
        else:
            break
    assert list(dict.fromkeys(dealt)) == [f"job:{n}" for n in range(500)]


def test_events_from_now_on_leave_out_what_was_before(bot: Client, services: Services) -> None:
    services.coordinator.publish([told(1)])
    reader = bot.events(wait_s=DEADLINE_S)
    publisher = threading.Timer(0.3, services.coordinator.publish, [[told(2)]])
    publisher.start()
    event = next(reader)
    publisher.join(DEADLINE_S)  # it may be read before the publisher has its answer
    assert event["id"] == "job:2"
    assert list(bot.events(after=event["place"], wait_s=0)) == []


def test_a_place_that_is_gone_is_told_and_reading_goes_on(bot: Client, services: Services) -> None:
    services.coordinator.publish([told(1)])
    reader = bot.events(user="ann", after="1-1", wait_s=DEADLINE_S)
    reset = next(reader)
    assert reset["type"] == "reset"
    assert reset["since"] < time.time()
    services.coordinator.publish([told(2)])
    assert next(reader)["id"] == "job:2"
    assert [event["id"] for event in bot.events(after=reset["place"], wait_s=0)] == ["job:2"]


def test_a_place_that_is_none_is_rejected(bot: Client) -> None:
    with pytest.raises(Rejected, match="place"):
        next(bot.events(after="nonsense"))


def test_a_reader_lives_through_an_outage_of_redis(own_valkey: Server, key_prefix: str, tmp_path: Path) -> None:
    with services_on(own_valkey.url, key_prefix, tmp_path) as services, Client(own_valkey.url, prefix=key_prefix) as bot:
        heard: list[str] = []
        reader = threading.Thread(target=lambda: heard.extend(event["id"] for event in bot.events(after="0-0")))
        reader.start()
        services.coordinator.publish([told(1)])
        until(lambda: heard, "it hears")
        own_valkey.stop()
        with pytest.raises(Transient):
            services.coordinator.ping()
        restarted = subprocess.Popen(own_valkey.process.args)
        try:
            until(lambda: published(services, told(2)), "the server is back")
            until(lambda: heard == ["job:1", "job:2"], "it hears what came after the outage")
        finally:
            bot.close()
            reader.join(DEADLINE_S)
            restarted.kill()
            restarted.wait()
        assert not reader.is_alive()


def published(services: Services, event: dict[str, Any]) -> bool:
    try:
        services.coordinator.publish([event])
    except Transient:
        return False
    return True


def test_close_ends_a_reader_that_waits(valkey: Server, key_prefix: str) -> None:
    bot = Client(valkey.url, prefix=key_prefix)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: list(bot.events()))
        until(waiting.running, "it waits")
        bot.close()
        assert waiting.result(5.0) == []


def test_the_memory_of_seen_events_is_bounded() -> None:
    seen = Recent(3)
    assert [seen.add(id) for id in "aabcda"] == [True, False, True, True, True, True]
    assert len(seen._ids) == 3


# ---- looking ---------------------------------------------------------------------------------------------------


def test_jobs_are_shown_listed_and_explained_over_http(api_bot: Client, services: Services) -> None:
    services.coordinator.put_snapshot(snapshot())
    tickets = api_bot.enqueue_many([{"uri": URI, "user": "ann", "key": n} for n in range(3)])
    pipeline.run(services, Step.INTAKE)
    assert api_bot.get(tickets[0].id)["state"] == "queued"
    assert api_bot.why(tickets[0].id)["text"]
    first = api_bot.list(user="ann", state=["queued", "paused"], limit=2)
    rest = api_bot.list(user="ann", state="queued", limit=2, cursor=first["cursor"])
    assert {job["id"] for job in first["jobs"] + rest["jobs"]} == {ticket.id for ticket in tickets}
    assert rest["cursor"] is None
    assert api_bot.list(user="bob") == {"jobs": [], "cursor": None}


def test_problems_become_our_errors(api_bot: Client, services: Services) -> None:
    with pytest.raises(NotFound, match="there is no job") as missing_job:
        api_bot.why("0" * 24)
    assert str(missing_job.value).count("id:") == 1
    for wrong_id in ("../../metrics", "", None):
        with pytest.raises(Rejected, match="not the id"):
            api_bot.get(wrong_id)  # type: ignore[arg-type]
    with pytest.raises(Rejected) as wrong:
        api_bot.list(limit=0)
    assert wrong.value.field == "limit"


def test_an_api_that_is_away_or_something_else_is_transient(bot: Client, valkey: Server) -> None:
    with Client(valkey.url, f"http://127.0.0.1:{free_port()}") as lost, pytest.raises(Transient, match="api"):
        lost.get("0" * 24)
    with Client(valkey.url, "http://127.0.0.1:" + valkey.url.rpartition(":")[2].partition("/")[0]) as wrong, pytest.raises(Transient):
        wrong.get("0" * 24)
    with pytest.raises(Rejected, match="api_url"):
        bot.get("0" * 24)


def test_a_key_is_sent_and_a_wrong_one_is_rejected(valkey: Server, key_prefix: str, tmp_path: Path) -> None:
    with services_on(valkey.url, key_prefix, tmp_path, api_keys="right") as services:
        api = serve(services, host="127.0.0.1", port=0)
        api.start()
        with Client(valkey.url, api.url, "right", key_prefix) as right:
            assert right.list()["jobs"] == []
        with Client(valkey.url, api.url, "wrong", key_prefix) as wrong, pytest.raises(Rejected, match="API key"):
            wrong.list()
        api.stop()


# ---- the package and the examples ------------------------------------------------------------------------------


def test_the_client_is_imported_without_engines_stores_celery_and_http_libraries() -> None:
    code = "import sys, json, worker.client; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, timeout=60).stdout))
    unwanted = ("celery", "kombu", "pymongo", "aria2p", "qbittorrentapi", "fastapi", "uvicorn", "requests", "prometheus_client", "sqlite3")
    assert loaded.isdisjoint(unwanted)
    assert not [name for name in loaded if name.startswith(("worker.engines", "worker.store", "worker.wiring", "worker.api"))]


def run_example(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "examples" / name, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_example_of_a_bot_hears_the_end_of_its_job(own_valkey: Server, tmp_path: Path) -> None:
    with services_on(own_valkey.url, "haul", tmp_path) as services, steps_running(services):
        ticket = job_id("42", "chat-7:message-1")
        with ThreadPoolExecutor(1) as pool, Client(own_valkey.url) as bot:
            example = pool.submit(run_example, "bot_enqueue.py", own_valkey.url, URI)
            until(lambda: services.store.get([ticket]), "the example's job is recorded")
            bot.control(ticket, "cancel")
            done = example.result(60)
    assert done.stdout.splitlines()[0] == f"job {ticket} is queued", done.stderr
    assert done.stdout.splitlines()[-1].startswith("job.cancelled")
    assert done.returncode == 1


def test_the_example_of_a_plain_celery_bot_puts_the_task_in_our_queue(own_valkey: Server) -> None:
    done = run_example("plain_celery.py", own_valkey.url, URI)
    assert (done.returncode, done.stdout) == (0, "sent\n"), done.stderr
    with Redis.from_url(own_valkey.url) as redis:
        [message] = redis.lrange("haul.control", 0, -1)
    assert json.loads(message)["headers"]["task"] == "haul.enqueue"
