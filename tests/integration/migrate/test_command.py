"""What the command is called with, and what it shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.integration.grown import TORRENTS
from tests.integration.migrate.copying import SMALL, TIMEOUT_S, Haul, everything_in, recorded


def test_a_dry_run_says_what_would_be_copied_and_makes_nothing(haul: Haul, source: str, target: str, tmp_path: Path) -> None:
    shown = haul(source, target, "--dry-run", "--json").json
    assert shown["to_copy"] == {"jobs": SMALL, "torrents": TORRENTS, "runs": SMALL}
    assert shown["dry_run"] is True
    assert not (tmp_path / "other").exists()
    part = everything_in(source)
    recorded(target, part[0][:-11:-1])
    ended = haul(source, target, "--dry-run")
    assert ended.code == 0
    assert f"to copy: {SMALL - 10} jobs, {TORRENTS} torrents and {SMALL} runs; 10 jobs are there already\n" in ended.out
    assert len(everything_in(target)[0]) == 10


def test_without_addresses_this_machines_file_goes_where_the_settings_point(
    haul: Haul, source: str, target: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text(f"{target}\n")
    monkeypatch.setenv("HAUL_STORE_URL_FILE", str(tmp_path / "url"))
    assert haul().out.endswith("now set HAUL_STORE_URL as it is\n")
    assert everything_in(target) == everything_in(source)


def test_an_address_is_read_from_a_file(haul: Haul, source: str, target: str, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"{target}\n")
    assert haul(source, f"@{tmp_path / 'url'}").out.endswith(f"now set HAUL_STORE_URL_FILE={tmp_path / 'url'}\n")
    assert everything_in(target) == everything_in(source)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sqlite:////no/such/haul.db", "sqlite:///{}/x.db"), "from: there is no store at /no/such/haul.db"),
        (("sqlite:///{}/data/haul.db",), "to: there is no store to copy to (name it, or set HAUL_STORE_URL)"),
        (("sqlite:///{}/data/haul.db", "sqlite:///{}/data/haul.db"), "to: is the store to copy from"),
        (("sqlite:///{}/data/haul.db", "sqlite:///{}/other/../data/haul.db"), "to: is the store to copy from"),
        (("@/no/such/file", "sqlite:///{}/x.db"), "from: cannot read /no/such/file: No such file or directory"),
        (("sqlite:///{}/data/haul.db", "postgresql://u:hunter2@host/haul"), "to: postgresql: is not the address of a store"),
        (("sqlite:///{}/data/haul.db", "hunter2"), "to: the value is not the address of a store"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_addresses_that_cannot_be_are_refused_without_their_secrets(
    haul: Haul, source: str, tmp_path: Path, arguments: Sequence[str], words: str, options: Sequence[str]
) -> None:
    ended = haul(*(argument.format(tmp_path) for argument in arguments), *options)
    assert (ended.code, ended.out) == (2, "")
    assert words in (json.loads(ended.err)["detail"] if options else ended.err)
    assert "hunter2" not in ended.err


def test_a_bar_is_shown_on_a_terminal(source: str, target: str, tmp_path: Path) -> None:
    reader, writer = os.openpty()
    environment = {**os.environ, "HAUL_DATA_DIR": str(tmp_path / "data"), "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "worker.cli", "store", "migrate", source, target]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=writer) as process:
        os.close(writer)
        seen = b""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                seen += os.read(reader, 4096)
            except OSError:  # the other end is closed
                break
    os.close(reader)
    assert process.returncode == 0
    assert f"{TORRENTS} of {TORRENTS}".encode() in seen
    assert "━".encode() in seen
