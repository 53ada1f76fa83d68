"""`haul up`, and a second terminal."""

from __future__ import annotations

import json
import signal

from tests.e2e.first_two_minutes.downloads import SIZE, SLOW
from tests.e2e.haul import Haul
from tests.e2e.stack import digest, eventually, sha256
from tests.origin import Origin
from worker.cli.lock import holder, running


def test_get_attaches_to_a_running_stack_and_leaves_it_running(up: Haul, origin: Origin) -> None:
    before = running(up.data)
    result = up.get(origin.url(f"file/attached.bin?size={SIZE}&seed=20"))

    assert (result.returncode, result.stdout) == (0, f"{up.out}/attached.bin  293.0 KiB\n"), result.stderr
    assert running(up.data) == before


def test_ctrl_c_on_an_attached_get_leaves_the_job_to_the_stack(up: Haul, origin: Origin) -> None:
    path = "/file/left.bin"
    with up.start("get", origin.url(f"{path}?{SLOW}&seed=21"), "--out", str(up.out)) as process:
        eventually(lambda: origin.bytes_served[path] > 0, "it has begun")
        process.send_signal(signal.SIGINT)
        result = up.end(process)

    assert result.returncode == 130
    assert "the running stack goes on with it" in result.stderr
    eventually(lambda: (up.out / "left.bin").exists(), "the stack finishes it")
    assert sha256(up.out / "left.bin") == digest(3_000_000, 21)


def test_add_show_and_watch_follow_a_job_to_its_end(up: Haul, origin: Origin) -> None:
    (added,) = up.json("add", origin.url(f"file/added.bin?size={SIZE}&seed=22"), "--key", "night", "--out", str(up.out))
    assert added["state"] == "queued"
    (again,) = up.json("add", origin.url(f"file/added.bin?size={SIZE}&seed=22"), "--key", "night", "--out", str(up.out))
    assert again["id"] == added["id"]

    watched = up.run("watch", added["id"][:8], "--json")
    states = [json.loads(line)["state"] for line in watched.stdout.splitlines()]
    assert (watched.returncode, states[-1]) == (0, "done")
    shown = up.json("show", added["id"])
    assert (shown["path"], shown["size"]) == (f"{up.out}/added.bin", SIZE)
    assert shown["timeline"][0]["text"] == "queued"


def test_the_same_key_with_another_source_is_refused(up: Haul, origin: Origin) -> None:
    assert up.run("add", origin.url("file/first.bin"), "--key", "taken").returncode == 0
    result = up.run("add", origin.url("file/second.bin"), "--key", "taken")

    assert result.returncode == 2
    assert "key: 'taken' is known with another source" in result.stderr


def test_a_job_is_paused_resumed_cancelled_and_retried_from_another_process(up: Haul, origin: Origin) -> None:
    path = "/file/acted.bin"
    (job,) = up.json("add", origin.url(f"{path}?size=40000000&rate=2000000"))
    id = job["id"]

    def is_state(state: str) -> bool:
        return bool(up.json("show", id)["state"] == state)

    eventually(lambda: origin.bytes_served[path] > 0, "it has begun")
    assert up.run("pause", id[:6]).returncode == 0
    eventually(lambda: is_state("paused"), "it is paused")
    assert "paused" in up.run("why", id).stdout
    assert up.run("resume", id).returncode == 0
    eventually(lambda: is_state("downloading"), "it goes on")
    with up.start("watch", id) as watch:
        assert up.run("cancel", id).returncode == 0
        result = up.end(watch)
    assert result.returncode == 1
    assert "cancelled" in result.stdout
    assert up.run("pause", id).returncode == 2
    assert up.run("retry", id).returncode == 0
    assert up.run("cancel", id).returncode == 0
    eventually(lambda: is_state("cancelled"), "it is cancelled again")


def test_an_unknown_or_unclear_id_is_refused_before_any_job_is_touched(up: Haul, origin: Origin) -> None:
    (job,) = up.json("add", origin.url(f"file/untouched.bin?{SLOW}"))
    assert up.run("cancel", job["id"], "0" * 24).returncode == 2
    assert up.run("show", "abc").returncode == 2
    assert up.json("show", job["id"])["want"] == "run"


def test_queue_engines_and_health_tell_what_runs(up: Haul) -> None:
    assert up.json("queue")["engines"][0]["up"]
    assert up.json("engines", "list")["engines"][0]["name"] == "aria2"
    assert up.json("health", "--deep")["ok"]
    for command in (["queue"], ["engines", "list"], ["health", "--deep"], ["list"]):
        result = up.run(*command)
        assert (result.returncode, result.stderr) == (0, "")


def test_a_second_up_is_refused_with_the_pid_of_the_first(up: Haul) -> None:
    result = up.run("up")

    assert result.returncode == 2
    assert f"haul: process {holder(up.data)} runs the stack of {up.data}" in result.stderr
