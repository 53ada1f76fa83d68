"""What a test suite said, from the JUnit XML that pytest and most others write."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.parsers import expat

from worker.jobs.errors import Rejected
from worker.maintenance.baseline.figures import Figure, finite

#: A million tests take less.
BYTES_MAX = 256 * 1024 * 1024
CHUNK_BYTES = 65_536
NAMES = ("tests.run", "tests.failed", "tests.skipped", "tests.seconds")
NOT_GIVEN = "no result of a test suite was given (--tests FILE)"


def read(path: Path) -> dict[str, Figure]:
    """The figures of a file: tests that ran, failed or broke, were left out, and the seconds they took together.

    Tests are counted one by one: sums of nested suites would count them twice.

    Raises:
        Rejected: it cannot be read, is no such file, or declares a document type (what that could do to a reader has no use here).
    """
    counts = {"testcase": 0, "failure": 0, "error": 0, "skipped": 0}
    seconds, suites = 0.0, 0

    def element(name: str, attributes: dict[str, str]) -> None:
        nonlocal seconds, suites
        suites += name in ("testsuite", "testsuites")
        if name in counts:
            counts[name] += 1
        if name == "testcase":
            seconds += finite(attributes.get("time", "0").replace(",", ""))

    def refused(*_: Any) -> None:
        raise ValueError("it declares a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler = element
    parser.StartDoctypeDeclHandler = refused
    try:
        with path.open("rb") as file:
            for _ in range(BYTES_MAX // CHUNK_BYTES):
                if not (chunk := file.read(CHUNK_BYTES)):
                    break
                parser.Parse(chunk, False)
        parser.Parse(b"", True)
        if not suites:
            raise ValueError("it names no test suite")
    except OSError as error:
        raise Rejected("tests", f"cannot read {path}: {error.strerror}") from None
    except (expat.ExpatError, ValueError) as error:
        raise Rejected("tests", f"{path} is no result in JUnit XML: {error}", fix="`pytest --junitxml FILE` writes one") from None
    values = (counts["testcase"] - counts["skipped"], counts["failure"] + counts["error"], counts["skipped"], seconds)
    return {name: Figure(float(value), 0.0, 1) for name, value in zip(NAMES, values, strict=True)}


def absent() -> dict[str, Figure]:
    """When none was given."""
    return {name: Figure.none(NOT_GIVEN) for name in NAMES}
