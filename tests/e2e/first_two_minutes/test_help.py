"""The command itself: its help, its completion."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.haul import Haul

COMMANDS: Sequence[Sequence[str]] = [
    *([name] for name in ("get", "up", "supervise", "api", "add", "list", "show", "why", "watch", "pause", "resume", "cancel", "retry")),
    *([name] for name in ("queue", "health")),
    ["engines", "list"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(haul: Haul, command: Sequence[str]) -> None:
    result = haul.run(*command, "--help")

    assert result.returncode == 0
    assert f"haul {' '.join(command)}" in result.stdout.partition("Example:")[2]


def test_help_needs_none_of_the_large_libraries(haul: Haul) -> None:
    check = "import sys, worker.cli.app; print({'celery', 'redis', 'pydantic', 'rich', 'fastapi', 'aria2p'} & set(sys.modules) or 'none')"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=True)

    assert result.stdout == "none\n"


def test_the_shell_can_complete_commands(haul: Haul) -> None:
    haul.environment |= {"_HAUL_COMPLETE": "complete_bash", "COMP_WORDS": "haul re", "COMP_CWORD": "1"}
    result = subprocess.run(
        [Path(sys.executable).with_name("haul")], env=haul.environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert result.stdout.split() == ["resume", "retry"]
