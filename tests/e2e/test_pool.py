"""Real aria2c's that come, go and are drained while jobs run: all are done once, with the right bytes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.pool import RATE, SIZE, Pool
from tests.e2e.stack import digest, eventually
from tests.tidy.sources import ROOT
from worker import pipeline


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with Pool(tmp_path / "stack", slots=2) as pool:
        pool.work()
        yield pool


def test_work_flows_to_an_engine_that_is_added_and_one_that_is_taken_out_ends_what_it_has(pool: Pool) -> None:
    ids = pool.ask_files(10)
    eventually(lambda: len(pool.running("aria2")) == 2, "aria2 is at work", seen=pool.tail)
    pool.second()
    pool.write("aria2", "aria2-b")
    eventually(lambda: pool.running("aria2-b"), "the second engine is given work", seen=pool.tail)
    eventually(lambda: pool.running("aria2"), "the first one is at work as well", seen=pool.tail)
    there = pool.running("aria2")
    pool.write("aria2-b")
    eventually(lambda: "aria2" in pool.services.pool.leaving, "the file was read")
    taken_out = pool.services.clock.time()
    pool.check_all(ids, ["aria2", "aria2-b"])

    for id in there:
        job = pool.job(id)
        assert job.transfer is not None
        assert (job.transfer.engine, job.attempt) == ("aria2", 1), "what ran there was not moved"
    served = {path: count for path, count in pool.origin.bytes_served.items() if path.startswith("/file/")}
    assert set(served.values()) == {SIZE}, "each was fetched once"
    late = [job for job in pool.services.store.get(ids).values() if job.events[-1].at > taken_out + 6]
    started = [event.at for job in late for event in job.events if "aria2 has it" in event.text]
    assert not [at for at in started if at > taken_out + 6], "it was given nothing new"
    eventually(lambda: "engines that left have nothing to do" in pool.log.read_text(), "it goes when it has nothing to do", 40, pool.tail)


def test_with_move_another_engine_fetches_what_ran_there_and_the_first_one_may_be_stopped(pool: Pool) -> None:
    pool.second()
    pool.write("aria2", "aria2-b")
    ids = pool.ask_files(4, rate=RATE // 4)
    eventually(lambda: len(pool.running("aria2")) == 2 and pool.running("aria2-b"), "both are at work", 30, pool.tail)
    there = pool.running("aria2")
    pipeline.drain(pool.services, "aria2", move=True)  # a command takes as long to start as the downloads run
    ended = pool.haul("engines", "drain", "aria2", "--move", "--wait")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("aria2 is drained")
    aria2 = pool.engines["aria2"]
    handles = [pool.services.engines["aria2"].handle(id, 1) for id in there]
    eventually(lambda: not any(map(aria2.knows, handles)), "aria2, asked itself, knows nothing of them")
    aria2.server.stop()
    jobs = pool.until_all(list(ids), timeout_s=90)
    for job in jobs:
        assert job.result is not None
        assert job.result.size == SIZE
    moved = [job for job in jobs if job.id in there and job.attempt == 2]
    assert moved, "what ran there goes on as a new attempt"
    assert all(job.failures == 0 and job.transfer and job.transfer.engine == "aria2-b" for job in moved)
    health = pool.haul("health")
    assert health.returncode == 0, health.stdout


def test_the_commands_of_the_operators_chapter_run_as_they_are_shown(pool: Pool) -> None:
    pool.second()
    pool.write("aria2", "aria2-b")
    blocks = re.findall(r"^```console\n(.*?)^```", (ROOT / "docs" / "engines.md").read_text(), re.MULTILINE | re.DOTALL)
    shown = [shlex.split(line.removeprefix("$ haul ")) for block in blocks for line in block.splitlines()]
    eventually(lambda: "up" in pool.state("aria2-b"), "the new engine is up", 30, pool.tail)
    said = {}
    for command in shown:
        words = [pool.origin.url(f"file/doc.bin?size={SIZE}") if word.startswith("https://") else word for word in command]
        ended = pool.haul(*words, *(["--key", "doc"] if words[0] == "add" else []))
        assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
        said[shlex.join(command)] = ended.stdout
    assert re.search(r"^volume of aria2-b +ok", said["health --deep"], re.MULTILINE)
    assert (
        said["engines drain aria2-b --wait"]
        == said["engines drain aria2-b --move --wait --yes"]
        == "aria2-b is drained: nothing runs there\n"
    )
    assert re.search(r"^aria2-b +drained +0/2 slots.*weight 1, aria2 1", said["engines list"], re.MULTILINE)
    assert said["engines undrain aria2-b"] == "aria2-b is given work\n"


def test_a_mistake_in_the_file_is_told_by_health_and_the_engines_go_on(pool: Pool) -> None:
    good = pool.file.read_text()
    pool.file.write_text(good.replace("slots=2", "slots=none"))
    eventually(lambda: "line 2: slots is out of range" in (pool.services.pool.fault or ""), "it is noticed")
    told = pool.haul("health")
    assert told.returncode == 3
    assert f"{pool.file}, line 2: slots is out of range" in told.stdout
    listed = pool.haul("engines", "list")
    assert "line 2: slots is out of range" in listed.stderr
    [id] = pool.ask_files(1)
    pool.check_delivered(id, digest(SIZE, 0))
