"""The records as a whole: read for a backup, written by a restore. For whoever copies them, not for the steps.

A dump is a sequence of named parts, each a stream of bytes that is never held as a whole. What they mean is the store's own affair;
how they are compared is not: by collection, with its count, the hash of its documents in their order, and its definition.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from worker.jobs.errors import Transient
from worker.ports.store import JobStore

#: Called with bytes that were read or written, as they are; may sleep, and what it raises ends the work.
Spend = Callable[[int], None]
#: Called again and again with why nothing goes on for the moment; what it raises ends the work.
Wait = Callable[[str], None]


def unseen(why: str) -> None:
    """A `Wait` that tells nobody."""


@dataclass(frozen=True, slots=True)
class Table:
    """One collection (or table) of a store at one moment.

    Attributes:
        documents: how many.
        sha256: of all documents in the order of their ids; the same documents give the same one in the same kind of store.
        definition: options and indexes as text; the same text for the same definition.
    """

    name: str
    documents: int
    sha256: str
    definition: str


class Hopeless(Transient):
    """The store answered, and would answer the same again soon."""


class Overtaken(Hopeless):
    """The store could not keep the moment that was read at; the next dump of the same archive does not ask it to."""


class Dump(Protocol):
    """The records as they are read now; to be closed.

    Attributes:
        kind: of the store: `sqlite`, `mongodb`.
        consistent: all of it is of one moment. Otherwise each document is, and the collections are read in an order that lets a
            system start from them: whatever a document relies on is read after it.
        size: bytes that are to come, about.
    """

    kind: str
    consistent: bool
    size: int

    def parts(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Each part once, by a name that is a relative path; its bytes have to be read before the next one is asked for."""

    def tables(self) -> tuple[Table, ...]:
        """What was read, by collection; once all parts are."""

    def close(self) -> None:
        """Release everything, files of its own too; idempotent."""


class Load(Protocol):
    """Takes the parts of a dump to a place beside the live records; none of these changes before `commit`. To be closed."""

    def wants(self, part: str) -> bool:
        """True when this part is needed for the collections that were asked for."""

    def take(self, part: str, chunks: Iterator[bytes]) -> None:
        """Write one part."""

    def settle(self) -> tuple[Table, ...]:
        """After the last part: make it durable, and read it back."""

    def open(self) -> JobStore:
        """An ordinary store on what was loaded; only of a load that is apart."""

    def commit(self) -> Path | None:
        """Put it in the place of the live records, with every lease let go; where those that were there are kept, if anywhere.

        A collection changes as a whole or not at all. Broken off, the same restore made again completes it.
        """

    def close(self) -> None:
        """Remove what is not committed; idempotent."""


class Archive(Protocol):
    """Where the records of one installation lie; connects only when it is used.

    Attributes:
        kind: of the store: `sqlite`, `mongodb`.
        keeps_aside: `Load.commit` keeps what was there before, whole. Otherwise whoever restores makes a backup first.
    """

    kind: str
    keeps_aside: bool

    def dump(self, scratch: Path, spend: Spend, wait: Wait = unseen) -> Dump:
        """Begin to read; files go to the directory `scratch`.

        A server that does not answer for a while is waited for, within `patience.PATIENCE_S`, at this and at each later call; what was
        read stays as it was, so that a part is whole or ends with an error.

        Raises:
            Rejected: there are no records yet.
            Transient: the store does not answer, or is damaged.
        """

    def load(self, spend: Spend, *, only: Collection[str] = (), apart: Path | None = None, wait: Wait = unseen) -> Load:
        """Begin to write; what an earlier one that was killed has left is removed.

        A server that does not answer for a while is waited for as in `dump`. What was written without an answer is looked for, and not
        written twice; a different document in the place of one is an error that names it (Failed).

        Args:
            only: these collections, and all when empty.
            apart: away from the live records, for a trial: in this directory, or in a database of its own.
        """

    def documents(self) -> int | None:
        """How many jobs there are in the live records: 0 is nothing to lose, None that it cannot be told, as of a damaged file."""
