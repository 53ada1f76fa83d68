"""What is shown of the budget right after it was taken back, while owners still tell of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from worker.admission.bandwidth import bandwidth, set_bandwidth
from worker.jobs.tiers import Limits


class Kept(dict[str, Any]):
    """A store that keeps what is set at run time and nothing else."""

    def limits(self) -> dict[str, Any]:
        return dict(self)

    def set_limits(self, values: dict[str, Any], drop: Any = ()) -> None:
        self.update(values)
        for name in drop:
            self.pop(name, None)


def services(told: str, settings: str) -> Any:
    seen = SimpleNamespace(zone="UTC", budget=told, error=None, limit=None, told=None, share=None, speed=0, budgets={}, unheld=0)
    return SimpleNamespace(
        store=Kept(),
        coordinator=SimpleNamespace(snapshots=lambda: {"a": seen}, wake=lambda _: None),
        settings=SimpleNamespace(bandwidth=settings, timezone="UTC"),
        clock=SimpleNamespace(time=lambda: 0.0),
        engines={"a": SimpleNamespace(weight=1)},
        tiers=SimpleNamespace(fresh=Limits, fault=None),
    )


@pytest.mark.parametrize(("settings", "shown"), [("", (None, None)), ("9 MiB", ("9 MiB", "settings"))])
def test_a_budget_that_was_taken_back_is_not_shown_as_that_of_the_settings(settings: str, shown: tuple[str | None, str | None]) -> None:
    some = services("5 MiB", settings)
    set_bandwidth(some, "5 MiB")
    found = set_bandwidth(some, None)
    assert (found["schedule"], found["from"]) == shown


def test_an_owner_with_other_settings_is_believed() -> None:
    found = bandwidth(services("7 MiB", ""))
    assert (found["schedule"], found["from"]) == ("7 MiB", "settings")
