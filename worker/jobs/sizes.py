"""Sizes in words."""

from __future__ import annotations


def size_text(count: float | None) -> str:
    """Bytes in words: `4.0 MiB`; `?` when unknown."""
    if count is None:
        return "?"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
