"""The scratch database of drills, which nobody else may keep anything in."""

from __future__ import annotations

import pytest

from worker.settings import SettingsError
from worker.store import open_archive, open_store
from worker.store.mongo.load import TRIAL


@pytest.mark.parametrize("name", [f"haul{TRIAL}", f"haul%5F{TRIAL[1:]}"])
def test_no_installation_keeps_its_records_where_a_drill_deletes_them(name: str) -> None:
    url = f"mongodb://user:hunter2@127.0.0.1:1/{name}?serverSelectionTimeoutMS=1"
    for opens in (open_store, open_archive):
        with pytest.raises(SettingsError, match=f"'haul{TRIAL}' is what restore drills delete") as told:
            opens(url)  # type: ignore[operator]
        assert "hunter2" not in str(told.value)


def test_a_name_that_only_looks_like_it_is_taken() -> None:
    assert open_archive("mongodb://127.0.0.1:1/haul_drill").kind == "mongodb"
