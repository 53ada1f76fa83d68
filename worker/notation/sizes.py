"""Sizes as people write and read them."""

from __future__ import annotations

import re

#: A small `b` is a bit, and refused.
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*(?:([KMGTkmgt])(i?))?B?")


def read_size(text: str) -> int | None:
    """Bytes, of `2 GiB` (1024 each step), `2 GB` or `2G` (1000), `4096`; None when it is no size."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        return None
    step = "KMGT".index(found[2].upper()) + 1 if found[2] else 0
    return int(float(found[1]) * (1024 if found[3] else 1000) ** step)


def size_or_none(value: object) -> int:
    """Bytes of a setting that 0 turns off. Raises ValueError."""
    size = read_size(value) if isinstance(value, str) else value
    if not isinstance(size, int) or size < 0:
        raise ValueError("must be a size such as 200 MB, or 0 for none")
    return size


def size_text(count: float | None) -> str:
    """Bytes in words: `4.0 MiB`; `?` when unknown."""
    if count is None:
        return "?"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
