"""Every key in Redis, with its type and its lifetime. All may be deleted at any time; only an unread intake is missed.

| key                     | type   | lifetime            | what                                                       |
|-------------------------|--------|---------------------|------------------------------------------------------------|
| `<p>:intake`            | stream | until acknowledged  | messages of the doors, field `body`; group `haul`          |
| `<p>:intake:parked`     | stream | newest 1,000        | messages nobody can deal with, fields `id` and theirs      |
| `<p>:begun:<step>:<id>` | string | a day, until ended  | `<times begun> <call>`; see `Coordinator.begin`            |
| `<p>:nudge:<step>`      | string | 5 s                 | a nudge is pending                                         |
| `<p>:reminders`         | zset   | while not empty     | step by the time to nudge it, on the store's clock         |
| `<p>:wake:<loop>`       | list   | 60 s, one element   | the loop has something to do                               |
| `<p>:claim:<name>`      | string | the claim's         | the holder                                                 |
| `<p>:waiting:jobs`      | hash   | -                   | job id -> `<score> <due> <length of tier>:<tier><user>`    |
| `<p>:waiting:u:<user>`  | zset   | while not empty     | job id by score (`waiting.score`), those that are due      |
| `<p>:waiting:later`     | zset   | while not empty     | job id by `due`, those that were not due yet               |
| `<p>:waiting:users`     | zset   | while not empty     | user by turn, those with a queue                           |
| `<p>:bucket:<name>`     | string | until it is full    | four doubles; see `take_tokens.lua`                        |
| `<p>:waiting:shares`    | hash   | until the next move | user -> by how much a second the turn moves                |
| `<p>:waiting:clock`     | hash   | -                   | where newcomers begin; see `waiting_move.lua`              |
| `<p>:waiting:freed`     | hash   | 15 min              | slots that became free in each minute; see there           |
| `<p>:starts`            | string | -                   | jobs that were started, ever; turns of engines go by it    |
| `<p>:progress:<engine>` | hash   | 60 s                | job id -> JSON                                             |
| `<p>:engine:<engine>`   | string | 15 s                | the owner's snapshot, JSON                                 |
| `<p>:engines`           | set    | -                   | names of engines with a snapshot, or that had one          |
| `<p>:advice:<process>`  | string | 1 h                 | what the advisor of a process found, JSON                  |
| `<p>:advisors`          | zset   | 1 h, newest 50      | the processes with advice, by wall clock                   |
| `<p>:cache:e:<entry>`   | string | its kind's          | tokens of its marks, line feed, JSON                       |
| `<p>:cache:l:<entry>`   | string | 3 s                 | the process that loads it                                  |
| `<p>:cache:t:<mark>`    | string | a minute, or longer | a token; entries that were loaded with another do not hold |
| `<p>:cache:index`       | zset   | while not empty     | entry by the ms at which it ends                           |
| `<p>:cache:sizes`       | hash   | -                   | bytes of each entry, and of all under the empty name       |
| `<p>:cache:server`      | string | -                   | the run of the server that the entries are from            |
| `<p>:cache:asked:<day>` | zset   | two days, 500 of it | `[kind, [what it is asked by]]` by how often               |
| `<p>:cache:rate:<min>`  | hash   | 26 hours            | `reads` of that minute, and those `found`                  |
| `<p>:events`            | stream | newest 100,000      | field `event`, JSON; the entry's id is a reader's place    |

The scripts build `waiting:u:` keys from user names, so the keys live on one server, not on a Redis Cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

#: The consumer group of the intake.
GROUP = "haul"


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of all keys under a prefix."""

    prefix: str = "haul"

    @property
    def intake(self) -> str:
        """Stream: unread messages, and read ones until they are acknowledged."""
        return f"{self.prefix}:intake"

    @property
    def parked(self) -> str:
        """Stream: messages that nobody can decode or deal with."""
        return f"{self.prefix}:intake:parked"

    def begun(self, step: str, id: str) -> str:
        """String: how often work on it was begun and not ended."""
        return f"{self.prefix}:begun:{step}:{id}"

    def nudge(self, step: str) -> str:
        """String: a nudge for the step is pending."""
        return f"{self.prefix}:nudge:{step}"

    @property
    def reminders(self) -> str:
        """Sorted set: steps by the time to nudge them."""
        return f"{self.prefix}:reminders"

    def wake(self, loop: str) -> str:
        """List of at most one element: the loop shall not rest."""
        return f"{self.prefix}:wake:{loop}"

    def claim(self, name: str) -> str:
        """String: who claimed the name."""
        return f"{self.prefix}:claim:{name}"

    @property
    def waiting(self) -> list[str]:
        """The fixed keys of the waiting index, in the order in which the scripts take them: jobs, users, later, clock."""
        return [f"{self.prefix}:waiting:{name}" for name in ("jobs", "users", "later", "clock")]

    @property
    def turns(self) -> list[str]:
        """Of the same index, what moves the turns: users, clock, shares, freed."""
        return [f"{self.prefix}:waiting:{name}" for name in ("users", "clock", "shares", "freed")]

    @property
    def queue_prefix(self) -> str:
        """What stands before the user in the key of a user's queue."""
        return f"{self.prefix}:waiting:u:"

    def bucket(self, name: str) -> str:
        """String: what is in a token bucket."""
        return f"{self.prefix}:bucket:{name}"

    @property
    def starts(self) -> str:
        """String: how many jobs were started."""
        return f"{self.prefix}:starts"

    def progress(self, engine: str) -> str:
        """Hash: the progress of an engine's jobs."""
        return f"{self.prefix}:progress:{engine}"

    @property
    def engines(self) -> str:
        """Set: names of engines that may have a snapshot."""
        return f"{self.prefix}:engines"

    def engine(self, name: str) -> str:
        """String: the snapshot of an engine."""
        return f"{self.prefix}:engine:{name}"

    def advice(self, process: str) -> str:
        """String: what the advisor of a process found."""
        return f"{self.prefix}:advice:{process}"

    @property
    def advisors(self) -> str:
        """Sorted set: the processes with advice."""
        return f"{self.prefix}:advisors"

    def cache_entry(self, name: str) -> str:
        """String: a value of the cache."""
        return f"{self.prefix}:cache:e:{name}"

    def cache_lock(self, name: str) -> str:
        """String: who loads this value."""
        return f"{self.prefix}:cache:l:{name}"

    def cache_token(self, mark: str) -> str:
        """String: what entries with this mark must have been loaded with."""
        return f"{self.prefix}:cache:t:{mark}"

    @property
    def cache_index(self) -> list[str]:
        """Sorted set and hash: the ends and the sizes of the cache's entries."""
        return [f"{self.prefix}:cache:index", f"{self.prefix}:cache:sizes"]

    @property
    def cache_server(self) -> str:
        """String: the run of the server that the entries are from."""
        return f"{self.prefix}:cache:server"

    def cache_asked(self, day: int) -> str:
        """Sorted set: what was asked of the cache on a day of UTC, as JSON, by how often."""
        return f"{self.prefix}:cache:asked:{day}"

    def cache_rate(self, minute: int) -> str:
        """Hash: reads of a minute, and those found."""
        return f"{self.prefix}:cache:rate:{minute}"

    @property
    def cache_channel(self) -> str:
        """Channel, no key: invalidations, a JSON list of the sender and the marks."""
        return f"{self.prefix}:cache"

    @property
    def events(self) -> str:
        """Stream: what the outside is told."""
        return f"{self.prefix}:events"
