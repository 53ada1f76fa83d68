"""What a stranger does first: `haul get`, Ctrl-C and again."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import time
from collections.abc import Iterator

from tests.e2e.first_two_minutes.downloads import ON_THE_WAY_BYTES, SIZE, SLOW
from tests.e2e.haul import Haul, processes_of
from tests.e2e.stack import digest, eventually, sha256
from tests.origin import Origin


def test_get_downloads_a_file_prints_path_and_size_and_stops_everything(haul: Haul, origin: Origin) -> None:
    result = haul.get(origin.url(f"file/one.bin?size={SIZE}&seed=1"))

    assert result.returncode == 0, result.stderr + haul.log()
    assert result.stdout == f"{haul.out}/one.bin  293.0 KiB\n"
    assert sha256(haul.out / "one.bin") == digest(SIZE, 1)
    assert os.listdir(haul.out) == ["one.bin"]
    haul.leaves_nothing_running()


def test_get_takes_several_urls_and_says_which_one_failed(haul: Haul, origin: Origin) -> None:
    urls = [origin.url(path) for path in (f"file/a.bin?size={SIZE}&seed=1", "status/404", f"file/b.bin?size={SIZE}&seed=2")]
    result = haul.get(*urls)

    assert result.returncode == 1
    assert result.stdout.splitlines() == [f"{haul.out}/a.bin  293.0 KiB", f"{haul.out}/b.bin  293.0 KiB"]
    assert f"haul: {urls[1]}: " in result.stderr
    assert (sha256(haul.out / "a.bin"), sha256(haul.out / "b.bin")) == (digest(SIZE, 1), digest(SIZE, 2))


def test_a_dead_link_ends_in_seconds_with_the_cause_in_words(haul: Haul, origin: Origin) -> None:
    begun = time.monotonic()
    result = haul.get(origin.url("status/404"))

    assert result.returncode == 1
    assert "there is no such file" in result.stderr
    assert result.stdout == ""
    assert time.monotonic() - begun < 30
    assert not haul.out.exists() or os.listdir(haul.out) == []
    haul.leaves_nothing_running()


def test_the_same_get_continues_after_ctrl_c_and_fetches_nothing_twice(haul: Haul, origin: Origin) -> None:
    path = "/file/interrupted.bin"
    url = origin.url(f"{path}?{SLOW}&seed=3")
    with haul.start("get", url, "--out", str(haul.out)) as process:
        eventually(lambda: origin.bytes_served[path] > 1_000_000, "a third has come", seen=haul.log)
        process.send_signal(signal.SIGINT)
        stopped = haul.end(process)
    assert stopped.returncode == 130
    assert stopped.stderr.endswith("haul: stopped; the same command continues\n")
    haul.leaves_nothing_running()
    before = origin.bytes_served[path]
    assert before < 2_500_000, "it was stopped in the middle"

    result = haul.get(url)
    assert result.returncode == 0, result.stderr + haul.log()
    assert sha256(haul.out / "interrupted.bin") == digest(3_000_000, 3)
    assert origin.bytes_served[path] <= 3_000_000 + ON_THE_WAY_BYTES

    before = origin.bytes_served[path]
    again = haul.get(url)
    assert (again.returncode, again.stdout) == (0, result.stdout)
    assert "already downloaded" in again.stderr
    assert origin.bytes_served[path] == before


def test_a_file_that_was_deleted_since_is_fetched_again(haul: Haul, origin: Origin) -> None:
    url = origin.url(f"file/deleted.bin?size={SIZE}&seed=4")
    for _ in range(2):
        result = haul.get(url)
        assert result.returncode == 0, result.stderr + haul.log()
        assert "already downloaded" not in result.stderr
        assert sha256(haul.out / "deleted.bin") == digest(SIZE, 4)
        (haul.out / "deleted.bin").unlink()


def test_a_get_that_is_killed_leaves_no_process_and_continues(haul: Haul, origin: Origin) -> None:
    path = "/file/killed.bin"
    url = origin.url(f"{path}?{SLOW}&seed=5")
    with haul.start("get", url, "--out", str(haul.out)) as process:
        eventually(lambda: origin.bytes_served[path] > 1_000_000, "a third has come", seen=haul.log)
        process.kill()
    eventually(lambda: not processes_of(haul.data), "its stack ends by itself", seen=lambda: processes_of(haul.data))

    result = haul.get(url)
    assert result.returncode == 0, result.stderr + haul.log()
    assert sha256(haul.out / "killed.bin") == digest(3_000_000, 5)
    assert origin.bytes_served[path] <= 3_000_000 + ON_THE_WAY_BYTES


def test_a_checksum_is_checked_and_printed(haul: Haul, origin: Origin) -> None:
    url = origin.url(f"file/sum.bin?size={SIZE}&seed=6")
    right = haul.get(url, "--sha256", digest(SIZE, 6).upper(), "--name", "right.bin")
    assert (right.returncode, right.stdout) == (0, f"{haul.out}/right.bin  293.0 KiB  sha256 {digest(SIZE, 6)}\n")

    wrong = haul.get(url, "--sha256", digest(SIZE, 7), "--name", "wrong.bin")
    assert wrong.returncode == 1
    assert digest(SIZE, 6) in wrong.stderr or "checksum" in wrong.stderr
    assert os.listdir(haul.out) == ["right.bin"]


def test_get_as_json_prints_one_document_and_nothing_else(haul: Haul, origin: Origin) -> None:
    result = haul.get(origin.url(f"file/json.bin?size={SIZE}&seed=8"), origin.url("status/404"), "--hash", "--json")

    done, failed = json.loads(result.stdout)
    assert result.returncode == 1
    assert result.stderr == ""
    assert (done["state"], done["path"], done["size"], done["sha256"]) == ("done", f"{haul.out}/json.bin", SIZE, digest(SIZE, 8))
    assert (failed["state"], failed["cause"]) == ("failed", "not_found")


def test_a_terminal_sees_a_bar_with_percent_speed_and_time_left(haul: Haul, origin: Origin) -> None:
    ours, theirs = pty.openpty()
    with haul.start("get", origin.url(f"file/bar.bin?{SLOW}&seed=9"), "--out", str(haul.out), stderr=theirs) as process:
        os.close(theirs)
        shown = "".join(_until_closed(ours))
        assert process.wait(60) == 0

    assert "bar.bin" in shown
    assert "━" in shown
    assert " % of 2.9 MiB at " in shown
    assert "/s, " in shown
    assert " s left" in shown


def _until_closed(terminal: int) -> Iterator[str]:
    with contextlib.suppress(OSError), os.fdopen(terminal, "rb", buffering=0) as screen:  # the last reader gets an error, not an end
        while piece := screen.read(4096):
            yield piece.decode(errors="replace")


def test_two_gets_at_once_share_one_stack_and_neither_stops_the_other(haul: Haul, origin: Origin) -> None:
    short, long = origin.url(f"file/short.bin?size={SIZE}&seed=10"), origin.url(f"file/long.bin?{SLOW}&seed=11")
    with haul.start("get", short, "--out", str(haul.out)) as one, haul.start("get", long, "--out", str(haul.out)) as other:
        results = haul.end(one), haul.end(other)

    assert [result.returncode for result in results] == [0, 0], [result.stderr for result in results]
    assert sha256(haul.out / "short.bin") == digest(SIZE, 10)
    assert sha256(haul.out / "long.bin") == digest(3_000_000, 11)
    assert origin.bytes_served["/file/long.bin"] <= 3_000_000 + ON_THE_WAY_BYTES
    haul.leaves_nothing_running()
