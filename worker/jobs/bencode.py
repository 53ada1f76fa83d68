"""Bencode (BEP 3), read strictly and within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Of containers in containers; libtorrent's limit (`max_decode_depth`).
DEPTH_MAX = 100
#: Values, and ends of containers: 100,000 files of a torrent take half of it, and all of it about two seconds.
TOKENS_MAX = 2_000_000
#: Digits of a number, its sign included, and of the length of a string; 2**63 has 19.
DIGITS_MAX = 20

_DIGITS = frozenset(b"0123456789")
_INTEGER, _LIST, _DICTIONARY, _END, _ZERO = b"ilde0"


class NotBencode(Exception):
    """The bytes are not bencode, or go beyond a bound; the message says how, to go on from "is"."""


def decode(data: bytes) -> tuple[Any, Mapping[bytes, bytes]]:
    """The value at the start of the bytes: int, bytes, list, or dict with keys of bytes. What follows it is ignored, as engines do.

    Keys may come in any order, but none twice: readers would differ in which they take.

    Returns:
        the value; and, when it is a dictionary, its entries as they are written, which a hash of one is made of.

    Raises:
        NotBencode: and nothing else, whatever the bytes.
    """
    frames: list[tuple[int, list[Any]]] = []  # of each open container: where it began, and its items
    entries: dict[bytes, bytes] = {}
    at, size = 0, len(data)
    for _ in range(TOKENS_MAX):
        if at >= size:
            raise NotBencode("cut off")
        head, began = data[at], at
        item: Any
        if head in _DIGITS:
            length, at = _number(data, at, b":")
            item, at = data[at : at + length], at + length
            if at > size:
                raise NotBencode("cut off")
        elif head == _INTEGER:
            item, at = _integer(data, at)
        elif head == _END and frames:
            began, items = frames.pop()
            item, at = items if data[began] == _LIST else _dictionary(items), at + 1
        else:
            at = _opened(data, at, frames)
            continue
        if not frames:
            return item, entries
        above = frames[-1][1]
        if len(frames) == 1 and len(above) % 2 and data[0] == _DICTIONARY and isinstance(above[-1], bytes):
            entries[above[-1]] = data[began:at]
        above.append(item)
    raise NotBencode("made of too many parts")


def _opened(data: bytes, at: int, frames: list[tuple[int, list[Any]]]) -> int:
    if data[at] not in (_LIST, _DICTIONARY):
        raise NotBencode("not bencoded")
    if len(frames) >= DEPTH_MAX:
        raise NotBencode("nested too deep")
    frames.append((at, []))
    return at + 1


def _dictionary(items: list[Any]) -> dict[bytes, Any]:
    keys = items[::2]
    if len(items) % 2 or not all(isinstance(key, bytes) for key in keys):
        raise NotBencode("not bencoded: a dictionary is wrong")
    made = dict(zip(keys, items[1::2], strict=True))
    if len(made) < len(keys):
        raise NotBencode("not bencoded: a key occurs twice")
    return made


def _integer(data: bytes, at: int) -> tuple[int, int]:
    if data[at + 1 : at + 2] != b"-":
        return _number(data, at + 1, b"e")
    value, end = _number(data, at + 2, b"e")
    if value == 0:
        raise NotBencode("not bencoded: a number is wrong")
    return -value, end


def _number(data: bytes, at: int, closing: bytes) -> tuple[int, int]:
    """Digits and what closes them; and the place behind that."""
    digits, closed, _ = data[at : at + DIGITS_MAX + 1].partition(closing)
    if not closed or not digits.isdigit() or (digits[0] == _ZERO and len(digits) > 1):
        raise NotBencode("not bencoded: a number is wrong")
    return int(digits), at + len(digits) + 1
