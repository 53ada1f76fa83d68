"""The thread that hears of invalidations ends without a word when its process does, and with one when it fails otherwise."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest

from worker.coordination.cache.listening import Listening
from worker.coordination.cache.shared import CacheBounds


@pytest.mark.parametrize("ends", [True, False])
def test_what_is_closed_under_it_at_the_end_is_no_fault(ends: bool) -> None:
    connection: Any = MagicMock()
    listening = Listening(connection, "channel", CacheBounds())

    def begun() -> None:
        if ends:
            listening.close()
        raise AttributeError("'NoneType' object has no attribute 'readline'")

    if ends:
        listening._run(lambda _: None, begun)
    else:
        with pytest.raises(AttributeError):
            listening._run(lambda _: None, begun)
    connection.lone.return_value.disconnect.assert_called_once()
