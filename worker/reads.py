"""Which reads are cached, and what ends them; over the ports.

How old an answer can be: `FRESH_S`, whatever fails. A process that wrote a record reads it as it wrote it, at once; the others
have it some milliseconds later, as the cache promises. What is counted over all jobs and engines is not invalidated at all, for it changes
all the time, and is as old as `FRESH_S` at most; counts that only go into statistics, `STATISTICS_S`. What a source said of itself is its
own affair and nothing of ours ends it: `PROBE_S`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from worker.jobs.model import Job, job_id
from worker.ports import Again, Cache, Kind

FRESH_S = 1.0
#: Of counts for metrics: less than any scraper rests, and several scrapers of several processes cost one count.
STATISTICS_S = 5.0
#: Of a source's answer: a link that many are sent is asked once, and a file that was replaced is a new one soon.
PROBE_S = 10.0
#: A write of more jobs than this ends the reads of all jobs, which costs less than naming them.
NAMED_MAX = 50
#: The JSON of what is not there.
NOTHING = b"null"
#: The key of what there is one of.
EVERYTHING = "all"
ID_CHARS = len(job_id("", ""))

# A look into Redis costs about as much as one into the store: what is one look into the store is not shared.
JOB = Kind("job", FRESH_S, negative_s=FRESH_S, shared=False)
JOBS = Kind("jobs", FRESH_S, shared=False)
LIMITS = Kind("limits", FRESH_S)
OVERVIEW = Kind("overview", FRESH_S)
STATISTICS = Kind("statistics", STATISTICS_S)
PROBE = Kind("probe", PROBE_S, negative_s=PROBE_S)

Load = Callable[[], Any]


class Reads:
    """The cached reads of a process.

    Args:
        counted: those that can be asked again count as asked for (`Cache.hottest`).
    """

    def __init__(self, cache: Cache, *, counted: bool = True) -> None:
        self._cache, self._counted = cache, counted

    def job(self, id: str, load: Load) -> bytes | None:
        """A job as JSON; `load` gives None when there is none, and so does this."""
        if len(id) != ID_CHARS or not id.isascii() or not id.isalnum():
            return None  # nobody fills the cache with what cannot be
        text = self._cache.text(JOB, id, load, again=self._again(id))
        return None if text == NOTHING else text

    def jobs(self, user: str | None, asked: tuple[Any, ...], load: Load) -> bytes:
        """As JSON, a page of a user's jobs, or of everybody's, which `asked`, JSON values, tells from the others."""
        tag = _of_user(user) if user is not None else _EVERYBODY
        return self._cache.text(JOBS, _short(repr((user, asked))), load, [tag], self._again(user, *asked))

    def limits(self, user: str, tier: str | None, load: Load) -> bytes:
        """As JSON, what a user may have and has."""
        return self._cache.text(LIMITS, _short(repr((user, tier))), load, [_of_user(user)], self._again(user, tier))

    def overview(self, load: Load) -> Any:
        """What runs and waits, and the engines."""
        return self._cache.get(OVERVIEW, EVERYTHING, load, again=self._again())

    def statistics(self, load: Load) -> Any:
        """What is counted of all jobs, for metrics."""
        return self._cache.get(STATISTICS, EVERYTHING, load)

    def probe(self, uri: str, whose: tuple[Any, ...], load: Load) -> Any:
        """What a source says of itself; `load` gives None when it says nothing.

        Args:
            uri: may be a secret, so that only a hash of it is kept; who does not know it does not find the answer.
            whose: what else has to be the same, as whether private networks may be reached, and the user where the URL has a password.
        """
        return self._cache.get(PROBE, _short(repr((uri, whose))), load)

    def _again(self, *asked: Any) -> Again:
        return asked if self._counted else None


class Forgetting:
    """Ends the reads that a write may have made old; implements `store.announcing.Changed`."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def jobs(self, jobs: Iterable[Job]) -> None:
        """See `Changed`."""
        named = list(jobs)
        if len(named) > NAMED_MAX:
            self._cache.invalidate(prefixes=[f"{JOB.name}:", _OF_USERS], tags=[_EVERYBODY])
        elif named:
            users = {_of_user(job.user) for job in named}
            self._cache.invalidate(keys=[(JOB, job.id) for job in named], tags=[*users, _EVERYBODY])

    def progress(self, ids: Iterable[str]) -> None:
        """See `Changed`. Lists show it when their time is over."""
        named = list(ids)
        if len(named) > NAMED_MAX:
            self._cache.invalidate(prefixes=[f"{JOB.name}:"])
        elif named:
            self._cache.invalidate(keys=[(JOB, id) for id in named])

    def limits(self) -> None:
        """See `Changed`."""
        self._cache.invalidate(prefixes=[f"{LIMITS.name}:"])

    def engines(self) -> None:
        """See `Changed`."""
        self._cache.invalidate(keys=[(OVERVIEW, EVERYTHING)])


_OF_USERS = "of:user:"
_EVERYBODY = "of:everybody"


def _of_user(user: str) -> str:
    """Names of users are long, and not always text that a server takes."""
    return _OF_USERS + _short(user)


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=12).hexdigest()
