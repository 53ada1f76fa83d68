"""What the documents say is so: the drawing of the states, the files they name, the commands they show."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from tests.tidy.sources import ROOT, documents
from worker.cli.app import app
from worker.jobs.states import TERMINAL, TRANSITIONS, State

ARROW = re.compile(r"^\s*(\S+) --> (\S+?)(?:: (.+))?$")
PATH = re.compile(r"(?<![\w./<>-])(?:worker|tests|docs|examples|deploy|monitoring|bin)/[\w./-]*\w")
CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: Ways to run the command of the project.
RUNNERS = (["uv", "run", "haul"], [".venv/bin/haul"], ["haul"])


def test_the_drawing_of_the_states_is_the_table_of_moves() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    drawn = re.search(r"^```mermaid\nstateDiagram-v2\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert drawn, f"ARCHITECTURE.md needs this drawing:\n{drawing()}"
    arrows = {match.groups() for line in drawn[1].splitlines() if (match := ARROW.match(line))}
    assert arrows == set(_moves()), f"the drawing should be:\n{drawing()}"
    assert len(arrows) == sum(1 for line in drawn[1].splitlines() if line.strip()), "a line of the drawing is no arrow"


def test_every_file_a_document_names_exists() -> None:
    missing = [f"{name}: {path}" for name, text in documents().items() for path in PATH.findall(text) if not _exists(path)]
    assert not missing


def test_a_link_between_documents_leads_somewhere() -> None:
    links = [(name, link) for name, text in documents().items() for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)]
    assert not [(name, link) for name, link in links if not (ROOT / name).parent.joinpath(link).exists()]


def test_the_readme_shows_the_commands_that_newcomers_need() -> None:
    shown = [command[:2] for command in _commands("README.md")]
    assert ["make", "get"] in shown
    assert ["make", "test"] in shown


def _commands(document: str) -> list[list[str]]:
    """The lines that begin with `$ ` in its blocks of the kind `console`, taken apart."""
    lines = [line for block in CONSOLE.findall(documents().get(document, "")) for line in block.splitlines()]
    return [shlex.split(line[2:], comments=True) for line in lines if line.startswith("$ ")]


@pytest.mark.parametrize("command", [command for name in documents() for command in _commands(name)], ids=shlex.join)
def test_a_command_that_is_shown_exists_and_takes_its_options(command: list[str]) -> None:
    environment = [word for word in command if re.fullmatch(r"[A-Z_]+=\S*", word)]
    words = command[len(environment) :] if command[: len(environment)] == environment else command
    if words[0] == "make":
        ran = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True, timeout=20)
        assert ran.returncode == 0, ran.stderr
    elif runner := next((runner for runner in RUNNERS if words[: len(runner)] == runner), None):
        # An option that does not exist is refused before help is shown; one that needs a value takes it.
        result = CliRunner().invoke(app, [*words[len(runner) :], "--help"])
        assert result.exit_code == 0, result.output
    elif words[0] == "celery":
        known = {**os.environ, "HAUL_REDIS_URL": "redis://127.0.0.1:1/0", "HAUL_ENGINES": ""}
        shown = [sys.executable, "-W", "ignore", "-m", *words, "--help"]
        ran = subprocess.run(shown, cwd=ROOT, env=known, capture_output=True, text=True, timeout=20)
        assert ran.returncode == 0, ran.stderr
    else:
        assert words[0] in ("docker", "deploy/secrets.sh", "git", "cd", "curl", "kill"), f"nobody checks {shlex.join(command)}"


def drawing() -> str:
    """The drawing as ARCHITECTURE.md should have it."""
    lines = [f"    {old} --> {new}" + (f": {why}" if why else "") for old, new, why in _moves()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def _moves() -> Iterator[tuple[str, str, str | None]]:
    yield "[*]", str(State.QUEUED), None
    for (old, new), why in TRANSITIONS.items():
        yield str(old), str(new), why
    for state in sorted(TERMINAL - {old for old, _ in TRANSITIONS}):
        yield str(state), "[*]", None


def _exists(path: str) -> bool:
    return (ROOT / path).exists() or ((ROOT / path).parent.is_dir() and any((ROOT / path).parent.glob((ROOT / path).name + ".*")))
