"""No file is read or written by the encoding of the machine's locale, which may know no more than ASCII."""

from __future__ import annotations

import re

from tests.tidy.sources import modules

#: A call that opens a file as text unless it is told otherwise, to the end of its line.
TEXT = re.compile(r"\.(?:read_text|write_text|fdopen)\((?!.*(?:encoding=|\"[rwax]b)).*")


def test_each_text_file_has_its_encoding_named() -> None:
    assert {path: found for path, text in modules().items() if (found := TEXT.findall(text))} == {}
