"""Results of a test suite, as strangers' programs write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.jobs.errors import Rejected
from worker.maintenance.baseline import suite


def read(tmp_path: Path, text: str) -> dict[str, float]:
    path = tmp_path / "junit.xml"
    path.write_text(text)
    return {name: figure.median for name, figure in suite.read(path).items()}


def test_tests_are_counted_one_by_one_whatever_the_suites_say_of_themselves(tmp_path: Path) -> None:
    text = """<?xml version="1.0"?><testsuites tests="99"><testsuite tests="99" time="99"><testsuite tests="4">
        <testcase name="a" time="1.5"/><testcase name="b" time="0.5"><failure message="no">x</failure></testcase>
        <testcase name="c"><error/></testcase><testcase name="d" time="1,000.0"><skipped/></testcase>
        </testsuite></testsuite></testsuites>"""
    assert read(tmp_path, text) == {"tests.run": 3, "tests.failed": 2, "tests.skipped": 1, "tests.seconds": 1002.0}


def test_pytests_own_file_is_read(tmp_path: Path) -> None:
    text = (
        '<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="0" failures="0" '
        'skipped="0" tests="2" time="0.031"><testcase classname="t" name="test_a" time="0.010" /><testcase classname="t" name="test_b" '
        'time="0.020" /></testsuite></testsuites>'
    )
    assert read(tmp_path, text)["tests.run"] == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<testsuite>",
        "not xml",
        "<html/>",
        '<testsuite><testcase time="soon"/></testsuite>',
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><testsuite><testcase name="&b;"/></testsuite>',
        '<!DOCTYPE x SYSTEM "file:///etc/passwd"><testsuite/>',
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Rejected, match=r"junit\.xml is no result in JUnit XML"):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="No such file"):
        suite.read(tmp_path / "none.xml")
