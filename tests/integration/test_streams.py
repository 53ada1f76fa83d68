"""What a command prints reaches its reader, or the fault is told in words, whatever stdout is."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from worker import __path__ as package

HAUL = f"{shlex.quote(sys.executable)} -m worker.cli"
NAME = "näme 漢字 \N{GRINNING FACE}.bin"
PRINTING = f"""
from worker.cli import streams
streams.prepare()
import sys
from worker.cli.output import print_json
print_json({NAME!a})
sys.stdout.write({NAME!a})
"""


def shell(command: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    own = {"HAUL_DATA_DIR": str(tmp_path / "data"), **environment}
    root = Path(next(iter(package))).parent
    return subprocess.run(["sh", "-c", command], env={**os.environ, **own}, cwd=root, capture_output=True, timeout=120, check=False)


@pytest.mark.parametrize("narrow", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_a_name_that_a_terminal_cannot_show_ends_no_command_and_json_stays_json(tmp_path: Path, narrow: dict[str, str]) -> None:
    printed = shell(f"{shlex.quote(sys.executable)} -c {shlex.quote(PRINTING)}", tmp_path, **narrow)
    assert (printed.returncode, printed.stderr) == (0, b"")
    document, text = printed.stdout.split(b"\n")
    assert json.loads(document) == NAME
    assert text.startswith(b"n\\xe4me \\u6f22")


def test_without_stdin_and_stdout_a_command_says_its_faults(tmp_path: Path) -> None:
    refused = shell(f"{HAUL} list --state quued <&- >&-", tmp_path)
    assert (refused.returncode, b"there is no state 'quued'" in refused.stderr) == (2, True)


def test_a_full_disk_behind_stdout_is_told_in_words(tmp_path: Path) -> None:
    full = shell(f"{HAUL} baseline list --json >/dev/full", tmp_path)
    assert (full.returncode, full.stderr) == (1, b'{"title": "OSError", "detail": "cannot write: No space left on device", "exit": 1}\n')


def test_wrong_usage_is_one_json_document_with_json(tmp_path: Path) -> None:
    wrong = shell(f"{HAUL} list --limit many --json", tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, b"")
    document = json.loads(wrong.stderr)
    assert (document["exit"], "--limit" in document["detail"]) == (2, True)
