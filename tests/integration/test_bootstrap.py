"""`bin/bootstrap.py` on a machine without uv: the file uv.lock names, checked, or nothing."""

from __future__ import annotations

import hashlib
import io
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.origin import Origin
from worker.cli.servers import free_port

BOOTSTRAP = Path(__file__).parents[2] / "bin" / "bootstrap.py"
PROGRAM = b"#!/bin/sh\necho I am uv\n"


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


def wheel() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("uv-1.0.data/scripts/uv", PROGRAM)
    return archive.getvalue()


def bootstrap(directory: Path, *wheels: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    """Run it in a checkout whose lock file names these wheels (address, hash)."""
    (directory / "bin").mkdir()
    shutil.copy(BOOTSTRAP, directory / "bin")
    lines = [f'{{ url = "{url}", hash = "{hash}" }},' for url, hash in wheels]
    (directory / "uv.lock").write_text('version = 1\n[[package]]\nname = "uv"\nversion = "1.0"\nwheels = [\n' + "\n".join(lines) + "\n]\n")
    command = [sys.executable, "-I", "-S", str(directory / "bin" / "bootstrap.py"), str(directory / ".tools" / "uv")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def name(kind: str = "manylinux_2_17", machine: str = platform.machine()) -> str:
    return f"uv-1.0-py3-none-{kind}_{machine}.whl"


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_the_wheel_of_this_platform_is_fetched_checked_and_unpacked(origin: Origin, tmp_path: Path) -> None:
    foreign = [
        (origin.url("status/500/" + name(kind, machine)), "sha256:0") for kind, machine in (("manylinux_2_17", "s390x"), ("win", "amd64"))
    ]
    newer = (origin.url("status/500/" + name("manylinux_9_99")), "sha256:0")
    fitting = name("manylinux_2_17_" + platform.machine() + ".manylinux2014")
    result = bootstrap(tmp_path, *foreign, newer, (origin.document(fitting, wheel()), sha256(wheel())))

    assert result.returncode == 0, result.stderr
    assert subprocess.check_output([tmp_path / ".tools" / "uv"]) == b"I am uv\n"
    assert [entry.name for entry in (tmp_path / ".tools").iterdir()] == ["uv"]


def test_a_file_with_another_hash_is_refused(origin: Origin, tmp_path: Path) -> None:
    result = bootstrap(tmp_path, (origin.document(name(), wheel()), sha256(b"what was locked")))

    assert result.returncode == 1
    assert "is not the file uv.lock names" in result.stderr
    assert not (tmp_path / ".tools").exists()


def test_a_machine_uv_is_not_made_for_is_told_so(tmp_path: Path) -> None:
    result = bootstrap(tmp_path, ("http://127.0.0.1/" + name("manylinux_2_17", "s390x"), "sha256:0"))

    assert result.returncode == 1
    assert "install uv, then run this again" in result.stderr


def test_an_address_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/{name()}"
    result = bootstrap(tmp_path, (url, "sha256:0"))

    assert result.returncode == 1
    assert f"cannot fetch {url}: " in result.stderr
