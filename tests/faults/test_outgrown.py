"""Sizes that turn out to be others than was announced, or than anybody said"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, digest, eventually, metalink, story
from tests.faults.catalogue import fault
from tests.faults.test_disk import Small, Unasked, fill, free, nothing_failed, waits_for_space
from tests.faults.test_space import Gauge
from worker import pipeline
from worker.jobs.states import Cause
from worker.limits import FREE_BYTES_MIN

MB = 1_000_000
VOLUME, NEIGHBOUR, LARGE = 128 * MB, 30 * MB, 90 * MB
#: Bytes a second, of the neighbour and of the others.
RATE, FAST = 3 * MB, 9 * MB
#: What a download may write before its size was seen: its rate for some looks, on a loaded machine.
SLACK = 12 * MB
#: From the moment there is space: the next try, and the download.
GOES_ON_S = 120


@contextlib.contextmanager
def ext4_volume(path: Path, size: int) -> Iterator[Path]:
    """A volume of the kind that keeps what it allocated in vain, as tmpfs does not."""
    image = path.with_suffix(".ext4")
    path.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(size)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", image], capture_output=True, check=False)
    mounted = made.returncode or subprocess.run(["mount", "-o", "loop", image, path], capture_output=True, check=False).returncode
    if mounted:
        pytest.skip("a small ext4 cannot be mounted, which needs root and a loop device")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)
        image.unlink()


class _Liar(BaseHTTPRequestHandler):
    """HEAD says 1 MB, GET leads to what is larger."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(MB))
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", self.server.there)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextlib.contextmanager
def liar(there: str) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Liar) as server:
        server.there = there  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/x"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def on_a_small_disk(directory: Path, kind: type[Small] = Small) -> Iterator[tuple[Stack, Path]]:
    """A stack at work that downloads to an ext4 of its own, and that volume."""
    with kind(directory / "s") as stack, ext4_volume(stack.downloads, VOLUME) as volume:
        stack.work()
        yield stack, volume


def slow_metalink(stack: Stack, name: str, size: int) -> str:
    """The address of a metalink of one file that comes slowly."""
    plain = metalink(stack.origin, name, {"big": (size, 1)} if size <= LARGE else {"big": (1, 1)})
    document = stack.origin.documented(name)
    assert document is not None
    changed = document.replace(b"&amp;seed=1", b"&amp;seed=1&amp;rate=%d" % FAST)
    if size > LARGE:
        changed = changed.replace(b"<size>1</size>", b"<size>%d</size>" % size).replace(b"size=1&", b"size=%d&" % size)
    stack.origin.document(name, changed)
    return plain


def neighbour(stack: Stack) -> str:
    id = stack.ask(f"file/n?size={NEIGHBOUR}&rate={RATE}", "neighbour", engine="aria2")
    stack.until_bytes("/file/n", MB)
    return id


@fault(
    "A download turns out to be larger than was announced, or than anybody knew, and does not fit beside the others",
    provoked="an ext4 of 128 MB, a download of 30 MB on it; then 90 MB come that nobody promised: by a metalink that was not asked, "
    "by a plain link to a metalink, by a server whose GET is larger than its HEAD; the neighbour's file is taken away later",
    holds="the disk is never full; the neighbour ends undisturbed; the large one waits with reason `space`, keeps what it has, and "
    "ends by itself as the same attempt with the right bytes",
)
@pytest.mark.parametrize("form", ["metalink", "link", "liar"])
def test_what_outgrows_its_promise_waits_and_its_neighbour_ends_well(tmp_path: Path, form: str) -> None:
    kind = Unasked if form == "metalink" else Small
    with on_a_small_disk(tmp_path, kind) as (stack, volume), contextlib.ExitStack() as held:
        other = neighbour(stack)
        uri = slow_metalink(stack, "x.meta4", LARGE)
        if form == "link":
            uri = stack.origin.url("status/302?location=/doc/x.meta4")
        elif form == "liar":
            uri = held.enter_context(liar(stack.origin.url(f"file/big?size={LARGE}&seed=1&rate={FAST}")))
        with Gauge(volume) as gauge:
            id = stack.ask(uri, "u", engine="aria2")
            waits_for_space(stack, id)
            print(f"{form}: {stack.origin.bytes_served['/file/big'] / MB:.1f} MB came; {pipeline.why(stack.services, id).text}")
            nothing_failed(stack, stack.until(other, "done", timeout_s=GOES_ON_S).id)
        assert gauge.least >= VOLUME - NEIGHBOUR - LARGE // 2, f"{gauge.least / MB:.1f} MB were free at least"
        path = stack.check_delivered(other, digest(NEIGHBOUR))
        assert not any(event.text.startswith("waits") for event in stack.job(other).events)
        came = stack.origin.bytes_served["/file/big"]
        assert came < SLACK

        path.unlink()
        stack.until(id, "done", timeout_s=GOES_ON_S)
        stack.check_delivered(id, digest(LARGE, 1))
        nothing_failed(stack, id)
        assert stack.origin.bytes_served["/file/big"] < LARGE + SLACK // 2, "it went on from what it had"


@fault(
    "A link leads to a metalink of a size that somebody invented",
    provoked="an ext4 of 128 MB, a download of 30 MB on it, and a plain link to a metalink of 1 TB, which aria2 survives",
    holds="the disk is never full; the neighbour ends undisturbed; the job is refused in words, and what it had is deleted",
)
def test_a_metalink_of_an_invented_size_is_refused_and_takes_nothing(tmp_path: Path) -> None:
    with on_a_small_disk(tmp_path) as (stack, volume):
        other = neighbour(stack)
        slow_metalink(stack, "x.meta4", 10**12)
        with Gauge(volume) as gauge:
            id = stack.ask("status/302?location=/doc/x.meta4", "u", engine="aria2")
            nothing_failed(stack, stack.until(other, "done", timeout_s=GOES_ON_S).id)
        assert gauge.least >= VOLUME - NEIGHBOUR - LARGE // 2
        job = stack.until(id, "failed", timeout_s=GOES_ON_S)
        assert (job.cause, "it needs 931.3 GiB, and the disk has room for" in (job.message or "")) == (Cause.REFUSED, True), story(job)
        eventually(lambda: not stack.work_directory(id).exists(), "what it had is deleted")


@fault(
    "Somebody else fills the disk while a download runs whose space was promised",
    provoked="an ext4 of 128 MB with a download of 90 MB, and a file of somebody else that leaves 6 MB; it is deleted later",
    holds="the job waits with reason `space` before the engine meets the full disk, and goes on from what it has",
)
def test_before_others_have_filled_the_disk_a_download_waits_with_what_it_has(tmp_path: Path) -> None:
    with on_a_small_disk(tmp_path) as (stack, volume):
        id = stack.ask(f"file/big?size={LARGE}&seed=1&rate={FAST}", "u", engine="aria2")
        stack.until_bytes("/file/big", 5 * MB)
        filler = fill(volume, 6 * MB)
        job = waits_for_space(stack, id)
        control = stack.work_directory(id) / "aria2" / "big.aria2"
        assert control.stat().st_size > 0, f"{story(job)} {free(volume)}"
        filler.unlink()
        assert free(volume) > FREE_BYTES_MIN
        stack.until(id, "done", timeout_s=GOES_ON_S)
        stack.check_delivered(id, digest(LARGE, 1))
        nothing_failed(stack, id)
        assert stack.origin.bytes_served["/file/big"] < LARGE + 2 * MB, "it went on from what it had"
