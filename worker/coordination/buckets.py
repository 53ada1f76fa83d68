"""Token buckets: what is sent to `lua/take_tokens.lua`, and the same rule in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.jobs.tiers import Bucket

US = 1_000_000
#: A server counts no further than some ages of the world; thirty years are enough.
KEPT_MS_MAX = 10**12


def arranged(asks: Sequence[Sequence[Bucket]]) -> tuple[list[Bucket], list[int]]:
    """Each bucket once, and the asks as the script takes them: a number of buckets, and their places from 1."""
    places: dict[str, int] = {}
    buckets: list[Bucket] = []
    numbers: list[int] = []
    for ask in asks:
        numbers.append(len(ask))
        for bucket in ask:
            if bucket.name not in places:
                buckets.append(bucket)
                places[bucket.name] = len(buckets)
            numbers.append(places[bucket.name])
    return buckets, numbers


def figures(buckets: Sequence[Bucket], line_s: float = 0.0) -> list[float]:
    """Rate, burst and the milliseconds until it is full and has no line, of each bucket, in one list."""
    return [figure for bucket in buckets for figure in (bucket.rate, bucket.burst, _kept_ms(bucket, line_s))]


def _kept_ms(bucket: Bucket, line_s: float) -> int:
    return min(KEPT_MS_MAX, math.ceil(1_000 * max(bucket.burst / bucket.rate, line_s)))


@dataclass(slots=True)
class Level:
    """What a bucket holds at a time, and up to when refused asks were told to come back; times in microseconds."""

    tokens: float
    at: int
    line: int = 0


def take(levels: dict[str, Level], asks: Sequence[Sequence[Bucket]], now: int, reach: int) -> list[int]:
    """What the script does, on levels in memory; microseconds to wait of each ask, 0 for taken."""
    for bucket in {bucket.name: bucket for ask in asks for bucket in ask}.values():
        known = levels.get(bucket.name, Level(bucket.burst, now))
        line = known.line if known.line <= now + reach else 0
        levels[bucket.name] = Level(held(known, bucket, now), now, line)
    return [_take_one(levels, ask, now, reach) for ask in asks]


def held(level: Level, bucket: Bucket, now: int) -> float:
    """Tokens in a bucket now."""
    return min(bucket.burst, level.tokens + max(0, now - level.at) * bucket.rate / US)


def _take_one(levels: Mapping[str, Level], ask: Sequence[Bucket], now: int, reach: int) -> int:
    lacking = [bucket for bucket in ask if levels[bucket.name].tokens < 1]
    if not lacking:
        for bucket in ask:
            levels[bucket.name].tokens -= 1
        return 0
    need = max(math.ceil((1 - levels[bucket.name].tokens) / bucket.rate * US) for bucket in lacking)
    if not reach:
        return max(1, need)
    told = max(now + max(1, need), *(levels[bucket.name].line + math.ceil(US / bucket.rate) for bucket in lacking))
    if told > now + reach:
        return reach
    for bucket in lacking:
        levels[bucket.name].line = told
    return told - now
