"""The engines as they are written: a comma list in the environment, or a file with an address a line and remarks behind `#`."""

from __future__ import annotations

import re

#: A remark begins a line or follows a blank: in an address `#` stands for nothing, and in a secret it is percent-encoded.
_REMARK = re.compile(r"(?:^|\s)#.*")


def read_lines(text: str) -> list[tuple[int, str]]:
    """Each address with the number of its line, from 1."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        found += [(number, part.strip()) for part in _REMARK.sub("", line).split(",") if part.strip()]
    return found
