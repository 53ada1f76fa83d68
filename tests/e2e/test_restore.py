"""A backup is made while downloads run, the records are lost, and the three commands of the README bring everything back."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.e2e.haul import Haul, processes_of, stack_up
from tests.e2e.stack import SERVICES, digest, eventually, sha256
from tests.origin import Origin
from worker.cli.lock import running

pytestmark = pytest.mark.skipif(SERVICES, reason="about the embedded stack, which has SQLite and servers of its own")

README = Path(__file__).resolve().parents[2] / "README.md"
COMMANDS = re.compile(r"<!-- restore: .*?-->\n```console\n(.*?)```", re.DOTALL)
SIZE = 2_000_000
#: So slow that they still run when the records are lost.
SLOW = f"size={SIZE}&rate=400000"


def restore_commands() -> list[list[str]]:
    """The commands as README.md has them, without `$ haul`."""
    found = COMMANDS.search(README.read_text())
    assert found, "the README shows how to restore"
    lines = [shlex.split(line) for line in found[1].strip().splitlines()]
    assert all(line[:2] == ["$", "haul"] for line in lines)
    return [line[2:] for line in lines]


def states(haul: Haul) -> dict[str, str]:
    """The state of each job, asked of the API: a command for each look would cost more than the test."""
    stack = running(haul.data)
    assert stack
    return {job["id"]: job["state"] for job in requests.get(f"{stack.api_url}/v1/jobs", timeout=10).json()["jobs"]}


@pytest.fixture
def haul(tmp_path: Path) -> Iterator[Haul]:
    machine = Haul(tmp_path)
    yield machine
    assert not processes_of(tmp_path), "the test leaves processes"


def test_on_a_new_machine_the_three_commands_of_the_readme_bring_every_job_to_its_end(haul: Haul, tmp_path: Path) -> None:
    brought_back(haul, tmp_path, machine_lost=True)


def brought_back(haul: Haul, tmp_path: Path, *, machine_lost: bool) -> None:
    """Lose the records, or the whole data directory, while downloads run; restore as README.md says; see every job end."""
    haul.environment |= {"HAUL_BACKUP_COPY_DIR": str(tmp_path / "copies"), "HAUL_QBITTORRENT": "off"}
    with Origin() as origin:
        with stack_up(haul) as process:
            [done] = haul.json("add", origin.url("file/done.bin?size=1000&seed=1"), "--out", str(haul.out))
            slow = haul.json("add", *(origin.url(f"file/slow{n}.bin?{SLOW}&seed={n}") for n in range(2, 5)), "--out", str(haul.out))
            eventually(lambda: states(haul)[done["id"]] == "done", "one is done")
            eventually(lambda: all(origin.bytes_served[f"/file/slow{n}.bin"] > 100_000 for n in range(2, 5)), "three run")
            made = haul.json("backup", "create")
            assert made["jobs"] == 4
            haul.run("add", origin.url("status/404"))  # the backup knows nothing of it
            process.kill()  # nobody stops anything in order
        eventually(lambda: not processes_of(haul.data), "its servers end with it")
        if not machine_lost:
            for path in haul.data.glob("haul.db*"):
                path.unlink()
        else:
            key = (haul.data / "backup.key").read_text()  # kept elsewhere, as the README says
            shutil.rmtree(haul.data)
            haul.data.mkdir(mode=0o700)
            (haul.data / "backup.key").write_text(key)
            haul.environment |= {"HAUL_BACKUP_DIR": str(tmp_path / "copies")}
            del haul.environment["HAUL_BACKUP_COPY_DIR"]

        *before, last = restore_commands()
        assert last == ["up"]
        for command in before:
            ended = haul.run(*command)
            assert ended.returncode == 0, ended.stderr
        with stack_up(haul):
            ids = [job["id"] for job in (done, *slow)]
            eventually(lambda: set(states(haul).values()) == {"done"}, "all jobs end", 90, lambda: states(haul))
            assert set(states(haul)) == set(ids)
        for n in range(2, 5):
            assert sha256(haul.out / f"slow{n}.bin") == digest(SIZE, n)
