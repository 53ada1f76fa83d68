"""Many short samples instead of one long one: every probe takes its turn in each round, so that a burst of others' work hits one round.

A round gives one sample of each figure, and a figure is the median of its rounds, or of their better half, with their spread. After
some milliseconds of calls comes a rest twice as long, so a capture takes a third of one core at most, and no server is asked by more
than one call at a time.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from worker.jobs.errors import HaulError
from worker.maintenance.baseline.figures import Figure

ROUNDS = 7
#: No round is begun that would end later; with fewer rounds a figure says so by its `n`.
BUDGET_S = 9.0
#: Nothing is begun any more; a service that hangs takes the time-out of its own call beyond this.
HARD_S = 12.0
#: Short calls follow each other for so long, for one that comes out of a rest measures how a processor wakes up; then comes the rest.
BURST_S, REST_FACTOR, REST_S_MAX = 0.005, 2.0, 0.05
#: Told of rounds done, of how many.
Progress: TypeAlias = Callable[[int, int], None]
OVER = "the time of a capture was over"


def best(seconds: Sequence[float]) -> float:
    """What neighbours and schedulers disturb least: a call is never faster than it can be."""
    return min(seconds)


def part(share: float) -> Callable[[Sequence[float]], float]:
    """The quantile of some seconds: the least of them that so large a part does not exceed."""
    return lambda seconds: sorted(seconds)[max(0, math.ceil(share * len(seconds)) - 1)]


@dataclass(frozen=True, slots=True)
class Probe:
    """Something that is timed.

    Attributes:
        ask: does it once; returns what size it was done on, or None.
        times: in each round.
        figures: by name, what is made of a round's seconds.
        pooled: the same of the seconds of all rounds.
    """

    ask: Callable[[], float | None]
    times: int
    figures: Mapping[str, Callable[[Sequence[float]], float]]
    pooled: Mapping[str, Callable[[Sequence[float]], float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gauge:
    """Something that is read once a round; `read` gives those of the names that can be had."""

    names: tuple[str, ...]
    read: Callable[[], Mapping[str, float]]


@dataclass
class _Taken:
    """What came of one probe or gauge."""

    rounds: list[list[float]] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    fault: str | None = None


def measured(
    probes: Sequence[Probe],
    gauges: Sequence[Gauge] = (),
    *,
    after_round: Callable[[], None] = lambda: None,
    progress: Progress | None = None,
    rounds: int = ROUNDS,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Figure]:
    """Every figure of the probes and gauges; what fails once is not asked again and is absent with the reason.

    Args:
        after_round: tidies up what the probes left; its errors are not ours.
        progress: told of rounds done, of how many.
    """
    begun, taken = clock(), [_Taken() for _ in range(len(probes) + len(gauges))]
    for number in range(-1, rounds):  # the first one opens connections and fills caches, and is not counted
        round_begun = clock()
        for each, probe in zip(taken, probes, strict=False):
            if not each.fault and clock() - begun < HARD_S:
                _sample(probe, each, clock, sleep, warm_up=number < 0)
        for each, gauge in zip(taken[len(probes) :], gauges, strict=True):
            if not each.fault:
                _read(gauge, each, warm_up=number < 0)
        with suppress(HaulError):
            after_round()
        if progress:
            progress(number + 1, rounds)
        if clock() - begun + (clock() - round_begun) > BUDGET_S:
            break
    found = [_timed(probe, each) for each, probe in zip(taken, probes, strict=False)]
    found += [_gauged(gauge, each) for each, gauge in zip(taken[len(probes) :], gauges, strict=True)]
    return {name: figure for some in found for name, figure in some.items()}


def _sample(probe: Probe, taken: _Taken, clock: Callable[[], float], sleep: Callable[[float], None], *, warm_up: bool) -> None:
    seconds: list[float] = []
    owed = 0.0
    try:
        for _ in range(1 if warm_up else probe.times):
            at = clock()
            size = probe.ask()
            seconds.append(clock() - at)
            taken.sizes += [] if size is None else [size]
            owed += seconds[-1]
            if owed >= BURST_S:
                sleep(min(REST_S_MAX, REST_FACTOR * owed))
                owed = 0.0
        sleep(min(REST_S_MAX, REST_FACTOR * owed))
    except (HaulError, OSError) as error:
        taken.fault = str(error) or type(error).__name__
        return
    if not warm_up:
        taken.rounds.append(seconds)


def _read(gauge: Gauge, taken: _Taken, *, warm_up: bool) -> None:
    try:
        read = gauge.read()
    except (HaulError, OSError) as error:
        taken.fault = str(error) or type(error).__name__
        return
    if not warm_up:
        for name, value in read.items():
            taken.values.setdefault(name, []).append(value)


def _timed(probe: Probe, taken: _Taken) -> dict[str, Figure]:
    names = [*probe.figures, *probe.pooled]
    if taken.fault or not taken.rounds:
        return _absent(names, taken.fault or OVER)
    size = statistics.median(taken.sizes) if taken.sizes else None
    everything = [seconds for each in taken.rounds for seconds in each]
    found = {name: Figure.of(_samples(of, taken.rounds), size) for name, of in probe.figures.items()}
    found |= {
        name: Figure(1000 * of(everything), Figure.of([1000 * of(each) for each in taken.rounds]).mad, len(everything), size)
        for name, of in probe.pooled.items()
    }
    return found


def _samples(of: Callable[[Sequence[float]], float], rounds: Sequence[Sequence[float]]) -> list[float]:
    """One of each round, in milliseconds; of the best ones the better half, for a burst of others' work spoils whole rounds."""
    samples = [1000 * of(each) for each in rounds]
    return sorted(samples)[: (len(samples) + 1) // 2] if of is best else samples


def _gauged(gauge: Gauge, taken: _Taken) -> dict[str, Figure]:
    if taken.fault:
        return _absent(gauge.names, taken.fault)
    found = {name: Figure.of(values) for name, values in taken.values.items()}
    return _absent([name for name in gauge.names if name not in found], "this machine does not tell") | found


def _absent(names: Iterable[str], why: str) -> dict[str, Figure]:
    return {name: Figure.none(why) for name in names}
