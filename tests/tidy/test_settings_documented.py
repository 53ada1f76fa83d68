"""Every setting has a row in a document, and nothing names one that does not exist."""

from __future__ import annotations

import re

from tests.tidy.sources import documents, tracked
from worker.settings import Settings

NAME = re.compile(r"\bHAUL_[A-Z0-9_]*[A-Z0-9]")
#: A row of a table whose first cell names settings.
ROW = re.compile(r"^\| *((?:`HAUL_[A-Z0-9_]+`[, ]*)+)\|", re.MULTILINE)
#: Files that tell people and containers how to set things.
TELLING = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docker-compose.yml", "Makefile", "docs/", "deploy/", "examples/", "monitoring/")


def test_every_setting_has_a_row_in_a_table() -> None:
    rows = {name for text in documents().values() for cell in ROW.findall(text) for name in NAME.findall(cell)}
    assert _settings() - rows == set()


def test_no_text_names_a_setting_that_does_not_exist() -> None:
    known = _settings() | {f"{name}_FILE" for name in _settings()} | _of_the_tests()
    unknown = {
        f"{path}: {name}"
        for path, text in tracked().items()
        if path.startswith(TELLING)
        for name in NAME.findall(text)
        if name not in known
    }
    assert unknown == set()


def _settings() -> set[str]:
    return {f"HAUL_{name.upper()}" for name in Settings.model_fields}


def _of_the_tests() -> set[str]:
    """What the tests themselves read, to run against other servers."""
    texts = (text for path, text in tracked().items() if path.startswith("tests/") and path.endswith(".py"))
    return {name for text in texts for name in NAME.findall(text) if name.startswith("HAUL_TEST_")}
