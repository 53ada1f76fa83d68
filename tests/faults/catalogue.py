"""The list of faults: each test says what breaks, how it is broken, and what must hold."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

HERE = Path(__file__).parent
DOCUMENT = HERE.parent.parent / "docs" / "faults.md"
HEAD = """\
# Faults

What can go wrong around Haul, how the tests make it go wrong, and what must hold then. Run them with `make faults`; this page is
written by `python -m tests.faults` from what the tests say of themselves.
"""

Test = TypeVar("Test", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Fault:
    """A line of the list; sentences without a full stop."""

    what: str
    provoked: str
    holds: str


def fault(what: str, *, provoked: str, holds: str) -> Callable[[Test], Test]:
    """Mark a test as the proof of one line of the list.

    Args:
        what: goes wrong, in the operator's words.
        provoked: how the test does it.
        holds: what the test checks.
    """

    def mark(test: Test) -> Test:
        test.fault = Fault(what, provoked, holds)  # type: ignore[attr-defined]
        return test

    return mark


def faults() -> Iterator[tuple[str, str, Fault]]:
    """Every line of the list: the chapter, the test, the fault."""
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(f"tests.faults.{path.stem}")
        chapter = (module.__doc__ or path.stem).strip().splitlines()[0].rstrip(".")
        for name, test in vars(module).items():
            if isinstance(line := getattr(test, "fault", None), Fault):
                yield chapter, f"tests/faults/{path.name}::{name}", line


def document() -> str:
    """The whole page."""
    parts, last = [HEAD], None
    for chapter, test, line in faults():
        if chapter != last:
            parts.append(f"\n## {chapter}\n\n| Fault | How it is provoked | What must hold | Test |\n|---|---|---|---|\n")
            last = chapter
        path, _, name = test.partition("::")
        parts.append(f"| {line.what} | {line.provoked} | {line.holds} | [`{name}`](../{path}) |\n")
    return "".join(parts)
