"""Other limiters, in an environment of their own: decisions a second of one thread, by the median, in one line of JSON.

uv run --isolated --no-project --with limits --with throttled-py --with redis python tests/bench/peers.py URL SECONDS
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from statistics import median

#: A second, and at once; the same for all. They are asked more often than that, so that most answers are refusals.
RATE = 1_000


def main() -> None:
    """Print the figure of each."""
    url, seconds = sys.argv[1], float(sys.argv[2])
    asks = {"limits_moving_window": _moving_window(url), "throttled_token_bucket": _throttled(url)}
    print(json.dumps({name: _rate(ask, seconds) for name, ask in asks.items()}))


def _moving_window(url: str) -> Callable[[], object]:
    import limits

    limiter = limits.strategies.MovingWindowRateLimiter(limits.storage.storage_from_string(url))
    item = limits.RateLimitItemPerSecond(RATE)
    return lambda: limiter.hit(item, "user")


def _throttled(url: str) -> Callable[[], object]:
    import throttled

    limiter = throttled.Throttled(
        key="user",
        using=throttled.RateLimiterType.TOKEN_BUCKET.value,
        quota=throttled.rate_limiter.per_sec(RATE, burst=RATE),
        store=throttled.store.RedisStore(server=url),
    )
    return limiter.limit


def _rate(ask: Callable[[], object], seconds: float) -> float:
    for _ in range(200):
        ask()
    took, end = [], time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end:
        ask()
        took.append(time.perf_counter() - begun)
    return 1 / median(took)


if __name__ == "__main__":
    main()
