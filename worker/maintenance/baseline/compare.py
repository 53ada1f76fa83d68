"""Captures against each other, pure: which figures became worse, beyond what their noise explains.

A figure counts as changed when it moved by more than its tolerance, the largest of

- the least change that matters: a part of what it was, and an absolute one (`figures.RULES`);
- `NOISE_FACTOR` times its noise: the spread between the captures of the history (MAD), or the error within the captures;

and of times, widened by as much as the machine itself is faster or slower than it was (`Rule.yardstick`). While more programs want the
processors than there are, and far more than before, every call waits its turn, and a slow one tells nothing of Haul: it is unknown.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from worker.maintenance.baseline.document import HAND, Capture
from worker.maintenance.baseline.figures import SIGMA_OF_MAD, Better, Figure, rule

#: The history that counts, and how much of it there has to be.
HISTORY, HISTORY_MIN = 7, 4
#: Standard deviations. Normal noise would need four; a deviation that is reckoned from seven values may be half of what it is.
NOISE_FACTOR = 5.0
#: Of two captures alone nobody knows how figures differ from one capture to the next, so more has to change.
PAIR_RELATIVE = 0.22
#: A yardstick that moved by less has not.
STEADY = 0.1
#: A load of more than the cores, and of so much more than before, keeps calls waiting.
CROWDED = 1.5
LOAD = "machine.load_1m"
#: A tolerance of more than the whole figure tells nothing.
BLIND = 1.0
#: Sizes that differ by more than this are not compared: both as a part, and so many.
SIZE_RELATIVE, SIZE_ABSOLUTE = 0.2, 10.0


class Verdict(StrEnum):
    """What became of a figure."""

    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    UNKNOWN = "unknown"  # there is nothing to compare, or it is too noisy to tell
    TOLD = "told"  # not judged


@dataclass(frozen=True, slots=True)
class Judgement:
    """A figure then and now.

    Attributes:
        tolerance: so much it could change unnoticed, in its unit; None where nothing is judged.
        why: of a verdict `unknown`.
    """

    name: str
    verdict: Verdict
    before: float | None = None
    now: float | None = None
    tolerance: float | None = None
    why: str = ""

    @property
    def change(self) -> float | None:
        """By which part of what it was it changed."""
        return (self.now - self.before) / abs(self.before) if self.before and self.now is not None else None

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "figure": self.name,
            "unit": rule(self.name).unit,
            "verdict": str(self.verdict),
            "before": self.before,
            "now": self.now,
            "change": self.change,
            "tolerance": self.tolerance,
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """All figures of two captures, or of one and its history.

    Attributes:
        before: the ids compared with, newest first.
        changed: programs whose version is another than in the newest of these.
    """

    before: tuple[str, ...]
    now: str
    judgements: tuple[Judgement, ...]
    changed: tuple[tuple[str, str | None, str | None], ...] = ()

    @property
    def worse(self) -> tuple[Judgement, ...]:
        """The regressions."""
        return tuple(each for each in self.judgements if each.verdict is Verdict.WORSE)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "before": list(self.before),
            "now": self.now,
            "regressions": [each.name for each in self.worse],
            "versions": [{"program": name, "before": old, "now": new} for name, old, new in self.changed],
            "figures": [each.document() for each in self.judgements],
        }


@dataclass(frozen=True, slots=True)
class _Reference:
    """What a figure was: its value, its noise, and the least relative change that counts."""

    figure: Figure
    noise: float
    relative: float


def between(old: Capture, new: Capture) -> Comparison:
    """Two captures; the noise of a figure is that of its samples in both."""

    def reference(name: str) -> _Reference | str:
        before, now = old.figures.get(name), new.figures[name]
        if before is None or before.absent is not None:
            return before.absent if before and before.absent else "it was not measured then"
        noise = (before.error**2 + now.error**2) ** 0.5
        return _Reference(before, noise, max(rule(name).relative, PAIR_RELATIVE if rule(name).relative else 0.0))

    return _compared(new, [old], reference)


def against(new: Capture, history: Sequence[Capture]) -> Comparison:
    """A capture and the median of up to seven before it, newest first; those of other machines are left out, and those measured otherwise.

    One made by hand goes by those of the clock while there are too few made by hand: a worker, where the clock measures, has other
    work, so it is rather slower.

    The noise of a figure is the spread between these captures, or within them when that is larger.
    """
    alike = _history(new, history)

    def reference(name: str) -> _Reference | str:
        now = new.figures[name]
        had = [figure for each in alike if (figure := each.figures.get(name)) and figure.absent is None]
        had = [figure for figure in had if _alike(figure.size, now.size)]
        if len(had) < HISTORY_MIN:
            return f"{len(had)} of {HISTORY_MIN} captures before it are like it"
        spread = Figure.of([figure.median for figure in had])
        within = statistics.median(figure.error for figure in (*had, now))
        return _Reference(replace(spread, size=now.size), max(SIGMA_OF_MAD * spread.mad, within), rule(name).relative)

    return _compared(new, alike, reference)


def _history(new: Capture, history: Sequence[Capture]) -> list[Capture]:
    same = [each for each in history if each.machine == new.machine and each.id != new.id]
    own = [each for each in same if each.source == new.source]
    return (same if new.source == HAND and len(own) < HISTORY_MIN else own)[:HISTORY]


def confirmed(first: Comparison, second: Comparison) -> Comparison:
    """The first comparison, with those regressions only that a second capture shows, too: a neighbour's burst is gone by then."""
    again = {each.name for each in second.worse}
    judged = (
        replace(each, verdict=Verdict.SAME, why="a second look did not show it")
        if each.verdict is Verdict.WORSE and each.name not in again
        else each
        for each in first.judgements
    )
    return replace(first, judgements=tuple(judged))


def _compared(new: Capture, before: Sequence[Capture], reference: Callable[[str], _Reference | str]) -> Comparison:
    drifts = {yardstick: _drift(yardstick, new, reference) for name in new.figures if (yardstick := rule(name).yardstick)}
    crowd = _crowd(new, reference)
    judged = tuple(
        _excused(_judged(name, figure, reference(name), drifts.get(rule(name).yardstick or "", 0.0)), crowd)
        for name, figure in sorted(new.figures.items())
    )
    gone = sorted({name for each in before[:1] for name in each.figures} - new.figures.keys())
    missing = tuple(Judgement(name, Verdict.UNKNOWN, why="it was not measured now") for name in gone)
    old = before[0].versions if before else {}
    changed = tuple((name, old.get(name), version) for name, version in sorted(new.versions.items()) if old and old.get(name) != version)
    return Comparison(tuple(each.id for each in before), new.id, judged + missing, changed)


def _judged(name: str, now: Figure, reference: _Reference | str, drift: float) -> Judgement:
    how = rule(name)
    if now.absent is not None:
        return Judgement(name, Verdict.UNKNOWN, why=now.absent)
    if isinstance(reference, str):
        verdict = Verdict.TOLD if how.better is Better.NEITHER else Verdict.UNKNOWN
        return Judgement(name, verdict, now=now.median, why=reference)
    before = reference.figure.median
    if how.better is Better.NEITHER:
        return Judgement(name, Verdict.TOLD, before, now.median)
    if not _alike(reference.figure.size, now.size):
        why = f"it was measured on {reference.figure.size:g} then, and on {now.size:g} now"
        return Judgement(name, Verdict.UNKNOWN, before, now.median, why=why)
    tolerance = max(how.absolute, abs(before) * reference.relative, NOISE_FACTOR * reference.noise) + abs(before) * drift
    grown = (now.median - before) * (1 if how.better is Better.LOWER else -1)
    if abs(grown) <= tolerance:
        blind = before and tolerance > max(how.absolute, abs(before) * BLIND)
        verdict, why = (Verdict.UNKNOWN, "too noisy to tell") if blind else (Verdict.SAME, "")
        return Judgement(name, verdict, before, now.median, tolerance, why)
    return Judgement(name, Verdict.WORSE if grown > 0 else Verdict.BETTER, before, now.median, tolerance)


def _crowd(new: Capture, reference: Callable[[str], _Reference | str]) -> str:
    """Why times tell nothing now; empty when they do."""
    now, was, cores = new.figures.get(LOAD), reference(LOAD) if LOAD in new.figures else "", new.machine.get("cores")
    if now is None or now.absent is not None or isinstance(was, str) or not isinstance(cores, int | float):
        return ""
    before = was.figure.median
    crowded = now.median > cores and now.median > CROWDED * before
    return f"the machine has more to do than it can: load {now.median:.1f} on {cores:g} cores, {before:.1f} before" if crowded else ""


def _excused(judgement: Judgement, crowd: str) -> Judgement:
    if crowd and judgement.verdict is Verdict.WORSE and rule(judgement.name).unit == "ms":
        return replace(judgement, verdict=Verdict.UNKNOWN, why=crowd)
    return judgement


def _drift(yardstick: str, new: Capture, reference: Callable[[str], _Reference | str]) -> float:
    """By which part the machine itself is faster or slower than it was, beyond its yardstick's own noise; 0 when nobody knows."""
    now = new.figures.get(yardstick)
    if now is None or now.absent is not None or not now.median:
        return 0.0
    was = reference(yardstick)
    if isinstance(was, str) or not was.figure.median:
        return 0.0
    ratio = now.median / was.figure.median
    return max(0.0, max(ratio, 1 / ratio) - 1.0 - STEADY)


def _alike(one: float | None, other: float | None) -> bool:
    """Whether what was measured on so much may be compared with what was measured on so much."""
    if one is None or other is None:
        return one is other
    return abs(one - other) <= max(SIZE_ABSOLUTE, SIZE_RELATIVE * max(one, other))
