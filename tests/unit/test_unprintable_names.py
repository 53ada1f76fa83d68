"""Names of servers and torrents that would be shown otherwise than they are."""

from __future__ import annotations

import pytest

from worker.delivery.names import safe_name


@pytest.mark.parametrize("mark", ["\u202e", "\u2066", "\u2028", "\x9b", "\x85", "\x1b"])
def test_what_turns_a_name_around_or_speaks_to_a_terminal_is_taken_out(mark: str) -> None:
    assert safe_name(f"photo{mark}gpj.exe") == "photo_gpj.exe"


def test_letters_of_every_script_and_joined_emoji_stay() -> None:
    for name in ("näme 漢字.bin", "שלום.txt", "👩\u200d🚀.png", "می\u200cخواهم.pdf"):
        assert safe_name(name) == name
