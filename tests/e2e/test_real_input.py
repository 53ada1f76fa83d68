"""What real servers send, and what the user finds: all cases wait at once, then each is looked at."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.ftp import Ftp, ftp_server
from tests.e2e.stack import SERVICES, SLACK_BYTES, Stack, digest, eventually, metalink, sha256
from tests.origin import content
from worker import pipeline
from worker.cli.servers import free_port
from worker.jobs.view import job_view

SIZE = 300_000
SECRET = "s3cr3t-Pa55"
LOGIN = f"ann:{SECRET}"
LONG = "n" * 296 + ".bin"
#: Small files at once; the server that stands in for MongoDB takes some ten milliseconds for each write of many.
MANY = 50 if SERVICES else 500
#: What each case is called -> (path at the origin, further fields of the request).
PATHS: dict[str, tuple[str, dict[str, str]]] = {
    "ranges": (f"file/ranges.bin?size={SIZE}&seed=1", {}),
    "empty": ("file/empty.bin?size=0", {}),
    "no-length": (f"nolength/nolength.bin?size={SIZE}&seed=2", {}),
    "redirects": (f"redirect/4/file/redirected.bin?size={SIZE}&seed=3", {}),
    "missing": ("status/404", {}),
    "gone": ("status/410", {}),
    "forbidden": ("status/403", {}),
    "locked": (f"auth/locked.bin?user=ann&password={SECRET}&size={SIZE}", {}),
    "busy": (f"flaky/busy.bin?fails=2&status=503&size={SIZE}&seed=4", {}),
    "very-busy": (f"flaky/very-busy.bin?fails=7&status=503&size={SIZE}&seed=5", {}),
    "cut": ("cut/cut.bin?at=1500000&times=1&size=3000000&seed=6", {}),
    "cut-often": ("cut/cut-often.bin?at=300000&times=7&size=3000000&seed=7", {}),
    "slow": ("file/slow.bin?rate=150000&size=450000&seed=8", {}),
    "escape": (f"named?filename=../../escape.bin&size={SIZE}&seed=9", {}),
    "escape-extended": (f"named?filename=..%2F..%2Fescape.bin&form=extended&size={SIZE}&seed=10", {}),
    "absolute": (f"named?filename=/etc/passwd&size={SIZE}&seed=11", {}),
    "dots": (f"named?filename=..&size={SIZE}&seed=12", {}),
    "long": (f"named?filename={LONG}&size={SIZE}&seed=13", {}),
    "emoji": (f"named?filename=%F0%9F%8E%AC+film+%C3%BC.mkv&form=both&size={SIZE}&seed=14", {}),
    "renamed": (f"file/original.bin?size={SIZE}&seed=15", {"name": "what I call it 🎬.bin"}),
    "checksum": (f"file/checksum.bin?size={SIZE}&seed=16", {"sha256": digest(SIZE, 16)}),
    "bad-checksum": (f"file/bad-checksum.bin?size={SIZE}&seed=17", {"sha256": digest(SIZE, 18)}),
}


@pytest.fixture(scope="module")
def ftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ftp]:
    directory = tmp_path_factory.mktemp("ftp")
    (directory / "open.bin").write_bytes(content(SIZE, 20))
    (directory / "private").mkdir()
    (directory / "private" / "closed.bin").write_bytes(content(SIZE, 21))
    with ftp_server(directory, *LOGIN.split(":")) as server:
        yield server


@pytest.fixture(scope="module")
def asked(stack: Stack, ftp: Ftp) -> dict[str, str]:
    """The id of each case's job; all are asked for at once."""
    host = f"127.0.0.1:{stack.origin.port}"
    addresses = {
        "refusing": f"http://127.0.0.1:{free_port()}/nobody.bin",
        "credentials": f"http://{LOGIN}@{host}/auth/credentials.bin?user=ann&password={SECRET}&size={SIZE}&seed=19",
        "wrong-credentials": f"http://ann:not-{SECRET}@{host}/auth/wrong.bin?user=ann&password={SECRET}&token={SECRET}",
        "ftp": ftp.url("open.bin"),
        "ftp-credentials": ftp.url("closed.bin", LOGIN),
        "ftp-missing": ftp.url("nothing.bin"),
        "metalink": metalink(stack.origin, "one.meta4", {"one.bin": (SIZE, 22)}),
        # The path does not tell that it is a metalink; the type of the answer does.
        "metalink-in-disguise": metalink(stack.origin, "disguise.meta4", {"found.bin": (SIZE, 27)}).replace(".meta4", "%2Emeta4"),
        "metalink-two": metalink(stack.origin, "two.meta4", {"first.bin": (SIZE, 23), "second.bin": (SIZE, 24)}),
        "metalink-wrong": metalink(stack.origin, "wrong.meta4", {"wrong.bin": (SIZE, 25)}, wrong=True),
    }
    cases = {name: {"uri": path, **fields} for name, (path, fields) in PATHS.items()}
    cases |= {name: {"uri": address} for name, address in addresses.items()}
    ids = stack.ask_all([{"user": "real", **spec} for spec in cases.values()])
    return dict(zip(cases, ids, strict=True))


@pytest.mark.parametrize(
    ("case", "size", "seed", "name"),
    [
        ("ranges", SIZE, 1, "ranges.bin"),
        ("empty", 0, 0, "empty.bin"),
        ("no-length", SIZE, 2, "nolength.bin"),
        ("redirects", SIZE, 3, "redirected.bin"),
        ("credentials", SIZE, 19, "credentials.bin"),
        ("busy", SIZE, 4, "busy.bin"),
        ("very-busy", SIZE, 5, "very-busy.bin"),
        ("slow", 450_000, 8, "slow.bin"),
        ("emoji", SIZE, 14, "🎬 film ü.mkv"),
        ("renamed", SIZE, 15, "what I call it 🎬.bin"),
        ("checksum", SIZE, 16, "checksum.bin"),
        ("ftp", SIZE, 20, "open.bin"),
        ("ftp-credentials", SIZE, 21, "closed.bin"),
        ("metalink", SIZE, 22, "one.bin"),
        ("metalink-in-disguise", SIZE, 27, "found.bin"),
    ],
)
def test_the_file_is_in_the_jobs_directory_with_its_bytes_and_its_name(
    stack: Stack, asked: dict[str, str], case: str, size: int, seed: int, name: str
) -> None:
    stack.check_delivered(asked[case], digest(size, seed), name)


@pytest.mark.parametrize(("case", "seed"), [("escape", 9), ("escape-extended", 10), ("absolute", 11), ("dots", 12), ("long", 13)])
def test_a_hostile_name_from_the_server_stays_in_the_jobs_directory(stack: Stack, asked: dict[str, str], case: str, seed: int) -> None:
    path = stack.check_delivered(asked[case], digest(SIZE, seed))

    assert len(path.name.encode()) <= 255
    assert path.name not in ("", ".", "..")
    if case == "long":
        assert path.name.endswith(".bin"), "the ending is kept"


def test_nothing_is_written_outside_the_jobs_directories(stack: Stack, asked: dict[str, str]) -> None:
    for case in ("escape", "escape-extended", "absolute", "dots", "long"):
        stack.until(asked[case], "done")

    assert not list(stack.directory.rglob("escape.bin*")) or all(
        path.parent.name in asked.values() for path in stack.directory.rglob("*escape.bin*")
    )
    known = {job.id for job in stack.services.store.get([entry.name for entry in stack.downloads.iterdir()]).values()}
    assert {entry.name for entry in stack.downloads.iterdir()} - known <= {".haul"}


@pytest.mark.parametrize(
    ("case", "cause"),
    [
        ("missing", "not_found"),
        ("gone", "not_found"),
        ("forbidden", "forbidden"),
        ("locked", "forbidden"),
        ("wrong-credentials", "forbidden"),
        ("ftp-missing", "not_found"),
        ("refusing", "unreachable"),
        ("bad-checksum", "checksum"),
        ("metalink-wrong", "checksum"),
    ],
)
def test_a_source_that_is_not_there_ends_with_its_cause_in_words(stack: Stack, asked: dict[str, str], case: str, cause: str) -> None:
    job = stack.until(asked[case], "failed", timeout_s=60)

    assert job.cause == cause
    assert pipeline.why(stack.services, job.id).text.startswith(f"it failed: {job.message}; ")
    assert not (stack.downloads / job.id).exists(), "nothing is delivered"
    gone = stack.gid(job)
    eventually(lambda: stack.rpc("tellStatus", gone, ["status"]) is None, "aria2 forgets what failed")


@pytest.mark.parametrize(("case", "path", "seed"), [("cut", "/cut/cut.bin", 6), ("cut-often", "/cut/cut-often.bin", 7)])
def test_a_connection_that_is_cut_is_resumed_and_not_begun_again(
    stack: Stack, asked: dict[str, str], case: str, path: str, seed: int
) -> None:
    stack.check_delivered(asked[case], digest(3_000_000, seed))

    assert stack.origin.requests[path] > 1
    assert stack.origin.bytes_served[path] <= 3_000_000 + SLACK_BYTES * (stack.origin.requests[path] - 1)


def test_a_server_that_is_overloaded_for_long_is_tried_again_as_a_new_attempt(stack: Stack, asked: dict[str, str]) -> None:
    assert stack.until(asked["very-busy"], "done").attempt > 1
    assert stack.until(asked["busy"], "done").attempt == 1


def test_a_file_is_fetched_once(stack: Stack, asked: dict[str, str]) -> None:
    stack.until(asked["ranges"], "done")

    assert stack.origin.requests["/file/ranges.bin"] == 1
    assert stack.origin.bytes_served["/file/ranges.bin"] == SIZE


def test_credentials_are_in_no_log_event_timeline_or_answer(stack: Stack, asked: dict[str, str]) -> None:
    ids = [asked[case] for case in ("credentials", "wrong-credentials", "ftp-credentials")]
    jobs = [stack.until(id, "done", "failed") for id in ids]
    eventually(lambda: all(not job.unsent for job in stack.services.store.get(ids).values()), "the events are told")

    told, _ = stack.services.coordinator.read_events("0-0", 100_000, 0)
    shown = [json.dumps([job_view(job) for job in jobs]), *(pipeline.why(stack.services, id).text for id in ids), json.dumps(told)]
    shown += [path.read_text(errors="replace") for path in (stack.log, stack.directory / "aria2.log", stack.directory / "valkey.log")]
    assert any(event["job"] == ids[0] for event in told)
    assert not [text for text in shown if SECRET in text]


def test_a_metalink_of_two_files_becomes_a_directory_with_both(stack: Stack, asked: dict[str, str]) -> None:
    job = stack.until(asked["metalink-two"], "done")

    assert job.result is not None
    path = Path(job.result.path)
    assert path.parent == stack.downloads / job.id
    assert {file.name: sha256(file) for file in path.iterdir()} == {"first.bin": digest(SIZE, 23), "second.bin": digest(SIZE, 24)}
    assert job.result.size == 2 * SIZE
    stack.check_gone(job)


def test_wrong_bytes_are_fetched_once_anew_and_a_retry_does_the_same(stack: Stack, asked: dict[str, str]) -> None:
    id = asked["bad-checksum"]
    before = stack.until(id, "failed")
    assert before.message is not None
    assert "; it was fetched 2 times" in before.message
    assert stack.origin.bytes_served["/file/bad-checksum.bin"] == 2 * SIZE
    eventually(lambda: not stack.work_directory(id).exists(), "the wrong bytes are deleted")

    stack.act(id, "retry")
    job = eventually(lambda: (found := stack.job(id)).attempt > before.attempt and found.terminal and found, "the second attempt ends")

    assert job.cause == "checksum"
    assert stack.origin.bytes_served["/file/bad-checksum.bin"] == 4 * SIZE


def test_many_small_files_at_once_are_all_right_within_a_minute(stack: Stack, asked: dict[str, str]) -> None:
    for id in asked.values():
        stack.until(id, "done", "failed", timeout_s=60)
    begun = time.monotonic()
    ids = stack.ask_all([{"uri": f"file/small-{n}.bin?size={1_000 + n}&seed={n}", "user": f"many-{n % 7}"} for n in range(MANY)])
    jobs = stack.until_all(ids, timeout_s=60)

    print(f"{MANY} small files: {time.monotonic() - begun:.1f} s")
    wrong = [
        n for n, job in enumerate(jobs) if not job.result or sha256(job.result.path) != hashlib.sha256(content(1_000 + n, n)).hexdigest()
    ]
    assert wrong == []
    served = {n: stack.origin.bytes_served[f"/file/small-{n}.bin"] for n in range(MANY)}
    assert {n: bytes for n, bytes in served.items() if bytes != 1_000 + n} == {}
    eventually(lambda: not any((stack.work_directory(id)).exists() for id in ids), "no work directory is left")
