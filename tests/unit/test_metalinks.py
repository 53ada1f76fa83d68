"""A metalink tells its files' sizes and the addresses it names."""

from __future__ import annotations

import pytest

from worker.jobs.errors import Rejected
from worker.jobs.metalinks import Metalink, read_metalink
from worker.jobs.model import Source, SourceKind
from worker.jobs.needs import tells_size

FOUR = '<metalink xmlns="urn:ietf:params:xml:ns:metalink">{}</metalink>'
THREE = '<metalink version="3.0" xmlns="http://www.metalinker.org/"><files>{}</files></metalink>'
FILES = "<file name='a'><size>10</size><url>http://a/</url></file><file name='b'><size> 0200 </size><url>http://b/</url></file>"


@pytest.mark.parametrize("form", [THREE, FOUR])
def test_what_a_metalink_needs_is_what_its_files_have_together(form: str) -> None:
    found = read_metalink(form.format(FILES).encode())
    assert (found.sizes, found.mirrors) == ([10, 200], ["http://a/", "http://b/"])
    assert found.total() == 210


@pytest.mark.parametrize(("select", "size"), [((2,), 200), ((1, 2), 210), ((3,), None), ((0,), None)])
def test_of_a_selection_only_the_chosen_files_count_and_one_that_is_not_there_tells_nothing(select: tuple[int, ...], size: int) -> None:
    assert Metalink(sizes=[10, 200]).total(select) == size


@pytest.mark.parametrize("entry", ["", "<size/>", "<size>-5</size>", "<size>1e3</size>", "<size>٣</size>"])
def test_a_file_that_tells_no_size_makes_the_whole_unknown_but_not_what_leaves_it_out(entry: str) -> None:
    found = read_metalink(FOUR.format(FILES + f"<file name='c'>{entry}<url>http://c/</url></file>").encode())
    assert (found.total(), found.total((1, 2))) == (None, 210)


def test_a_file_of_several_sizes_counts_with_the_largest() -> None:
    assert read_metalink(FOUR.format("<file name='a'><size>10</size><size>30</size><size>20</size></file>").encode()).total() == 30


def test_a_metalink_without_files_has_no_size() -> None:
    assert read_metalink(FOUR.format("").encode()).total() is None
    assert read_metalink(FOUR.format("<size>5</size>").encode()).total() is None


def test_a_size_that_no_disk_has_names_the_size_as_what_is_wrong() -> None:
    with pytest.raises(Rejected, match="a size that no disk has") as refused:
        read_metalink(FOUR.format(f"<file name='x'><size>{2**63 - 1}</size></file>").encode())
    assert refused.value.field == "size"


@pytest.mark.parametrize(
    ("kind", "uri", "asked"),
    [
        (SourceKind.HTTP, "https://a/x", True),
        (SourceKind.METALINK, "HTTPS://a/x.meta4", True),
        (SourceKind.METALINK, "ftp://a/x.meta4", False),
        (SourceKind.FTP, "ftp://a/x", False),
        (SourceKind.TORRENT, "https://a/x.torrent", False),
    ],
)
def test_only_what_is_fetched_by_http_can_be_asked_for_its_size(kind: SourceKind, uri: str, asked: bool) -> None:
    assert tells_size(Source(kind, uri)) is asked
