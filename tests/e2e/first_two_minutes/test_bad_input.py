"""What cannot be done is said in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.first_two_minutes.downloads import SIZE
from tests.e2e.haul import Haul
from tests.origin import Origin

BAD = {
    "uri: scheme 'gopher' is not supported": ["gopher://host/file"],
    "uri: has no host": ["http:///file"],
    "uri: magnet without a valid infohash": ["magnet:?xt=urn:btih:123"],
    "uri: is not a valid URL": ["http://host:port/file"],
    "engine: there is no engine 'wget'": ["http://host/file", "--engine", "wget"],
    "priority: -1 is out of range": ["http://host/file", "--priority=-1"],
    "sha256: is not a SHA-256 checksum": ["http://host/file", "--sha256", "abc"],
    "name: has path parts": ["http://host/file", "--name", "../file"],
    "name: goes with one URL only": ["http://host/a", "http://host/b", "--name", "c"],
    "select: '3-1' is not a list of file numbers": ["http://host/file", "--select", "3-1"],
    "seed_ratio: -2.0 is out of range": ["http://host/file", "--seed-ratio=-2"],
    "private": ["http://127.0.0.1/file", "--guard"],
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_to_get_is_refused_in_words_before_anything_is_started(haul: Haul, words: str) -> None:
    result = haul.get(*BAD[words])

    assert result.returncode == 2
    assert words in result.stderr
    assert result.stdout == ""
    assert not haul.data.exists(), "nothing is left behind"
    assert not haul.out.exists()


def test_a_bad_setting_is_named(haul: Haul) -> None:
    haul.environment["HAUL_SLOTS"] = "many"
    result = haul.get("http://host/file")

    assert result.returncode == 2
    assert result.stderr.startswith("haul: HAUL_SLOTS: ")


def test_a_data_directory_that_cannot_be_written_is_named(haul: Haul, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    haul.environment["HAUL_DATA_DIR"] = str(tmp_path / "file" / "data")
    result = haul.get("http://host/file")

    assert result.returncode == 2
    assert result.stderr.startswith("haul: HAUL_DATA_DIR: ")


def test_a_server_that_cannot_be_started_is_named_with_the_fix(haul: Haul) -> None:
    haul.environment["HAUL_ARIA2C"] = "/nowhere/aria2c"
    result = haul.get("http://host/file")

    assert result.returncode == 3
    assert result.stderr == "haul: HAUL_ARIA2C: /nowhere/aria2c is not a program that can be run\n"
    haul.leaves_nothing_running()


@pytest.mark.parametrize(
    "command", [["add", "http://host/file"], ["pause", "abcdef"], ["queue"], ["health"], ["watch"], ["engines", "list"]]
)
def test_a_command_that_needs_a_stack_says_that_none_runs(haul: Haul, command: list[str]) -> None:
    result = haul.run(*command)

    assert result.returncode == 3
    assert "no stack is running" in result.stderr
    assert not haul.data.exists()


def test_errors_are_json_too_when_asked_for(haul: Haul) -> None:
    result = haul.run("add", "gopher://host", "--json")

    problem = json.loads(result.stderr)
    assert (result.returncode, result.stdout, problem["exit"], problem["field"]) == (2, "", 2, "uri")


def test_without_a_stack_the_records_are_shown_as_the_last_one_left_them(haul: Haul, origin: Origin) -> None:
    assert haul.run("list").stdout == ""
    haul.get(origin.url(f"file/kept.bin?size={SIZE}&seed=12"))

    listed = haul.run("list")
    assert "done" in listed.stdout
    assert "no stack is running here" in listed.stderr
    (job,) = json.loads(haul.run("list", "--json").stdout)["jobs"]
    assert "completed" in haul.run("show", job["id"][:8]).stdout or "done" in haul.run("show", job["id"][:8]).stdout
    assert f"{haul.out}/kept.bin" in haul.run("why", job["id"]).stdout


@pytest.mark.parametrize("command", ["supervise", "api"])
def test_a_single_role_needs_addresses(haul: Haul, command: str) -> None:
    result = haul.run(command)

    assert result.returncode == 3
    assert "no stack is running" in result.stderr
