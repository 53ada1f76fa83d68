"""`.torrent` files: every version is read as engines read it, and whatever else the bytes are, they are refused with words."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.torrents import PIECE_BYTES, Pack, Version, bencode, pack
from worker.jobs.bencode import DEPTH_MAX, NotBencode, decode
from worker.jobs.errors import Rejected
from worker.jobs.torrents import SIZE_MAX, TORRENT_BYTES_MAX, TORRENT_FILES_MAX, Torrent, describe, read_torrent

V1 = pack()
#: Of one piece, whatever the hash in it.
SMALL: dict[str, Any] = {"name": "x", "piece length": PIECE_BYTES, "length": 5, "pieces": b"x" * 20}
ROOT = b"r" * 32


def torrent(**info: Any) -> bytes:
    """A small torrent with these entries in place of its own; None takes one out."""
    return bencode({"info": {name: value for name, value in {**SMALL, **info}.items() if value is not None}})


def of_files(*files: dict[str, Any], pieces: int = 1) -> bytes:
    return torrent(length=None, files=list(files), pieces=b"x" * 20 * pieces)


def of_tree(tree: Any, **info: Any) -> bytes:
    return torrent(**{"length": None, "pieces": None, "meta version": 2, "file tree": tree, **info})


def refused(document: bytes) -> str:
    """What is wrong with it."""
    with pytest.raises(Rejected) as caught:
        read_torrent(document)
    assert caught.value.field == "torrent"
    assert caught.value.fix
    return caught.value.detail


# ---- what is read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "hybrid", "v2"])
def test_each_version_is_read_with_its_infohashes_and_files(version: Version) -> None:
    made = pack(version=version)
    read = read_torrent(made.document)
    assert (read.name, read.v1, read.v2, read.size) == ("pack", made.v1, made.v2, made.size)
    assert {"/".join(file.path[1:]): file.size for file in read.files} == {path: len(body) for path, body in made.files.items()}
    assert {file.path[0] for file in read.files} == {"pack"}


@pytest.mark.parametrize("version", ["v1", "hybrid", "v2"])
def test_a_single_file_has_no_folder(version: Version) -> None:
    made = pack({"only.bin": b"x" * 100_000}, name="only.bin", single=True, version=version)
    [file] = read_torrent(made.document).files
    assert (file.path, file.size, file.number) == (("only.bin",), 100_000, 1)


def test_padding_is_not_shown_and_keeps_its_number() -> None:
    read = read_torrent(pack(version="hybrid").document)
    assert [(file.path[-1], file.number) for file in read.files] == [("a.bin", 1), ("b.bin", 3), ("c.bin", 5)]


@pytest.mark.parametrize(
    ("file", "padding"),
    [
        ({"path": ["p"], "attr": "p"}, True),
        ({"path": ["p"], "attr": "xhp"}, True),
        ({"path": ["_____padding_file_0_if you see this file"]}, True),
        ({"path": [".pad", "5"]}, False),
        ({"path": ["p"], "attr": "x"}, False),
        ({"path": ["p"], "attr": 7}, False),
    ],
)
def test_padding_is_what_libtorrent_takes_for_it(file: dict[str, Any], padding: bool) -> None:
    read = read_torrent(of_files({"length": 1, "path": ["a"]}, {"length": 5, **file}))
    assert len(read.files) == (1 if padding else 2)


def test_the_infohash_is_of_the_bytes_as_they_are_written() -> None:
    unsorted = b"d4:infod12:piece lengthi32768e6:pieces20:xxxxxxxxxxxxxxxxxxxx4:name1:u6:lengthi5eee"
    assert read_torrent(unsorted).v1 == hashlib.sha1(unsorted[7:-1]).hexdigest()


def test_what_follows_the_torrent_is_ignored_as_engines_do() -> None:
    assert read_torrent(V1.document + b"\n") == read_torrent(V1.document)


def test_private_torrents_are_known() -> None:
    assert read_torrent(pack(private=True).document).private
    assert not read_torrent(V1.document).private


@pytest.mark.parametrize("name", ["\x1b[31m\n\x7f", "ü" * 200, "a\\b", "CON", "…", " "])
def test_wild_names_are_taken_for_delivery_makes_them_safe(name: str) -> None:
    assert read_torrent(torrent(name=name)).name == name


def test_names_that_are_not_utf_8_are_shown_with_replacement() -> None:
    assert read_torrent(torrent(name=b"caf\xe9")).name == "caf\N{REPLACEMENT CHARACTER}"
    assert read_torrent(torrent(**{"name": b"caf\xe9", "name.utf-8": "café"})).name == "café"
    path = {"path": [b"caf\xe9"], "path.utf-8": ["café"]}
    assert read_torrent(of_files({"length": 5, **path})).files[0].path == ("x", "café")


# ---- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "cut off"),
        (b"<html>404</html>", "not bencoded"),
        (V1.document[:-1], "cut off"),
        (V1.document[: len(V1.document) // 2], "cut off"),
        (b"i1e", "nothing of files"),
        (b"le", "nothing of files"),
        (b"de", "nothing of files"),
        (b"d4:infoi1ee", "nothing of files"),
        (b"d4:infodee", "no pieces"),
        (b"d1:ai1e1:ai2ee", "twice"),
        (b"di1ei2ee", "dictionary"),
        (b"d1:ae", "dictionary"),
        (b"i01e", "number"),
        (b"i-0e", "number"),
        (b"i--1e", "number"),
        (b"i1_0e", "number"),
        (b"ie", "number"),
        (b"i" + b"9" * 100 + b"e", "number"),
        (b"01:a", "number"),
        (b"1_0:aaaaaaaaaa", "number"),
        (b"5:abc", "cut off"),
        (b"99999999999999999999:abc", "cut off"),
        (b"l" * 1_000_000, "too deep"),
        (b"l" + b"le" * 2_000_000, "too many parts"),
        (bytes(TORRENT_BYTES_MAX + 1), "larger than"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_torrent_is_refused_with_words(document: bytes, words: str) -> None:
    assert words in refused(document)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (torrent(name=None), "without a name"),
        (torrent(name=7), "without a name"),
        (torrent(name=""), "no file can have"),
        (torrent(name=".."), "no file can have"),
        (torrent(name="/etc/passwd"), "no file can have"),
        (torrent(**{"name": "good", "name.utf-8": "../bad"}), "no file can have"),
        (torrent(length=None), "size"),
        (torrent(length=-1), "size"),
        (torrent(length="5"), "size"),
        (torrent(length=SIZE_MAX + 1), "size"),
        (torrent(length=0, pieces=""), "empty ones only"),
        (torrent(pieces=b"x" * 21), "do not fit"),
        (torrent(pieces=b"x" * 40), "do not fit"),
        (torrent(pieces=""), "do not fit"),
        (torrent(pieces=7), "do not fit"),
        (torrent(**{"piece length": 0}), "size"),
        (torrent(**{"piece length": -5}), "size"),
        (torrent(**{"piece length": 2**40}), "size"),
        (torrent(**{"piece length": None}), "size"),
        (of_files(), "no files"),
        (torrent(files="x"), "no files"),
        (torrent(files=["x"]), "is none"),
        (of_files({"length": 5}), "without a path"),
        (of_files({"length": 5, "path": []}), "without a path"),
        (of_files({"length": 5, "path": "x"}), "without a path"),
        (of_files({"length": 5, "path": [5]}), "without a name"),
        (of_files({"length": 5, "path": ["a", ""]}), "no file can have"),
        (of_files({"length": 5, "path": ["", "a"]}), "no file can have"),
        (of_files({"length": 5, "path": ["."]}), "no file can have"),
        (of_files({"length": 5, "path": ["..", "a"]}), "no file can have"),
        (of_files({"length": 5, "path": ["a/../../b"]}), "no file can have"),
        (of_files({"length": 5, "path": ["a\0b"]}), "no file can have"),
        (of_files({"length": 5, "path": ["a"], "path.utf-8": ["..", "a"]}), "no file can have"),
        (of_files({"length": 5, "path": [".."], "path.utf-8": ["a"]}), "no file can have"),
        (of_files({"length": 5, "path": ["a"], "attr": "p"}), "no files"),
        (of_files(*[{"length": SIZE_MAX, "path": ["a"]}] * 2), "absurd"),
        (of_tree({}), "no files"),
        (of_tree([]), "no files"),
        (of_tree({"a": {}}), "is none"),
        (of_tree({"a": 5}), "is none"),
        (of_tree({"": {"length": 5}}), "no file can have"),
        (of_tree({"a": {"": {"length": 5, "pieces root": ROOT}, "b": {}}}), "no file can have"),
        (of_tree({"..": {"": {"length": 5, "pieces root": ROOT}}}), "no file can have"),
        (of_tree({"a": {"": {"length": 5}}}), "without a hash"),
        (of_tree({"a": {"": {"length": 5, "pieces root": "short"}}}), "without a hash"),
        (of_tree({"a": {"": {"pieces root": ROOT}}}), "size"),
        (of_tree({"a": {"": {"length": -5, "pieces root": ROOT}}}), "size"),
        (of_tree({"a": {"": {"length": 5, "pieces root": ROOT}}}, **{"piece length": 1024}), "version"),
        (of_tree({"a": {"": {"length": 5, "pieces root": ROOT}}}, **{"piece length": 20_000}), "version"),
        (of_tree({"a": {"": {"length": 5, "pieces root": ROOT}}}, **{"meta version": 3}), "no pieces"),
    ],
    ids=lambda value: repr(value)[-60:],
)
def test_a_torrent_that_is_broken_is_refused_with_words(document: bytes, words: str) -> None:
    assert words in refused(document)


def many(count: int) -> bytes:
    return of_files(
        *({"length": 1, "path": [f"folder {n // 100}", f"file {n}.bin"]} for n in range(count)), pieces=-(-count // PIECE_BYTES)
    )


def test_100_000_files_are_read_and_one_more_is_refused() -> None:
    most, one_more = many(TORRENT_FILES_MAX), many(TORRENT_FILES_MAX + 1)
    assert len(read_torrent(most).files) == TORRENT_FILES_MAX
    assert "100000 files" in refused(one_more)


def test_100_000_files_of_a_tree_are_read_and_one_more_is_refused() -> None:
    leaf = {"": {"length": 1, "pieces root": ROOT}}
    tree = {f"folder {n}": {f"file {m}": leaf for m in range(100)} for n in range(1_000)}
    most, one_more = of_tree(tree), of_tree({**tree, "z": leaf})
    assert len(read_torrent(most).files) == TORRENT_FILES_MAX
    assert "100000 files" in refused(one_more)


# ---- what a record keeps ---------------------------------------------------------------------------------------


def test_a_description_says_what_the_torrent_is() -> None:
    made: Pack = pack(version="hybrid")
    about = describe(made.document, [1, 5])
    assert (about.document, about.name) == (hashlib.sha256(made.document).hexdigest(), "pack")
    assert (about.size, about.files, about.v1, about.v2) == (made.size, 3, made.v1, made.v2)


def test_a_name_without_end_does_not_go_into_the_record() -> None:
    assert len(describe(torrent(name="n" * 1_000_000)).name) <= 500


@pytest.mark.parametrize(
    ("version", "select", "words", "fix"),
    [
        ("v1", [4], "no file 4: the torrent has 3 files", "from 1 to 3"),
        ("v1", [1, 7, 9], "no file 7", "from 1 to 3"),
        ("hybrid", [2], "no file 2: the torrent has 3 files", "1, 3, 5"),
        ("v2", [100_000], "no file 100000", "from 1 to 3"),
    ],
)
def test_a_selection_outside_the_torrent_is_refused_with_the_numbers_there_are(
    version: Version, select: list[int], words: str, fix: str
) -> None:
    with pytest.raises(Rejected) as caught:
        describe(pack(version=version).document, select)
    assert (caught.value.field, words in caught.value.detail, fix in caught.value.fix) == ("select", True, True)


# ---- whatever the bytes ----------------------------------------------------------------------------------------

values: st.SearchStrategy[Any] = st.recursive(
    st.integers(-(2**63), 2**63) | st.binary(max_size=40) | st.sampled_from([b"p", b"..", b"a", b""]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([b"", b"a", b"length", b"path", b"path.utf-8", b"attr", b"pieces root"]), inner, max_size=5)
    ),
    max_leaves=12,
)
infos = st.dictionaries(
    st.sampled_from([b"name", b"name.utf-8", b"piece length", b"pieces", b"length", b"files", b"file tree", b"meta version", b"private"]),
    values,
)


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: V1.document[:300] + tail))
def test_any_bytes_are_read_or_refused_and_nothing_else_happens(document: bytes) -> None:
    read_or_refused(document)


@given(
    infos, st.sampled_from([{}, {k.encode(): v for k, v in SMALL.items()}, {b"meta version": 2, b"piece length": 16_384, b"name": b"x"}])
)
def test_any_description_is_read_or_refused_and_nothing_else_happens(info: dict[bytes, Any], base: dict[bytes, Any]) -> None:
    read_or_refused(bencode({b"info": {**base, **info}}))


@given(values)
def test_bencode_comes_back_as_it_was(value: Any) -> None:
    assert decode(bencode(value))[0] == value


@given(st.integers(0, len(V1.document) - 1), st.integers(0, 255))
def test_a_byte_that_is_wrong_is_no_accident(place: int, byte: int) -> None:
    read_or_refused(V1.document[:place] + bytes([byte]) + V1.document[place + 1 :])


def read_or_refused(document: bytes) -> None:
    try:
        read = read_torrent(document)
    except Rejected as refusal:
        assert refusal.field == "torrent"  # noqa: PT017 - both ends are right
        return
    assert isinstance(read, Torrent)
    for file in read.files:
        assert file.path
        assert not {"", ".", ".."} & {*file.path}
        assert not any("/" in part or "\0" in part for part in file.path)
    assert 0 < read.size <= SIZE_MAX * TORRENT_FILES_MAX


def test_containers_in_containers_are_read_up_to_the_bound() -> None:
    assert decode(b"l" * DEPTH_MAX + b"e" * DEPTH_MAX)[0] is not None
    with pytest.raises(NotBencode):
        decode(b"l" * (DEPTH_MAX + 1) + b"e" * (DEPTH_MAX + 1))
