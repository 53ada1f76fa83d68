"""A bot looks at its jobs over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.client.asked import URI
from tests.integration.doors import services_on, snapshot
from worker import pipeline
from worker.api.server import serve
from worker.cli.servers import Server, free_port
from worker.client import Client, NotFound, Rejected, Transient
from worker.ports import Services, Step


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
