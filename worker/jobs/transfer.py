"""What a job has at an engine, and its name there and on the disk."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Transfer:
    """The submission of a job to one engine. (id, attempt) is its identity there.

    A transfer can be handed over to another job that asked for the same content, and keeps its id: it is not always that of its job.

    Attributes:
        id: of the job that it was made for, or that with a number (`own_id`).
        directory: the engine's own work directory, `<volume>/.haul/<id>/<engine>`.
        submit_until: store clock; no call to submit is begun after it, no other attempt before it
            plus the RPC time-out.
        turn: how often it was handed over. Of two jobs that hold it the one with more keeps it.
        size: bytes of all its files, when they are complete and fetched for another job: this one only reads them.
    """

    id: str
    engine: str
    attempt: int
    directory: str
    submit_until: float
    turn: int = 0
    size: int | None = None


def own_id(job: str, handed: int, installation: str = "") -> str:
    """The id of a job's next transfer of its own: never that of one which other jobs may hold by now.

    Args:
        installation: in whose name engines are used, which others may use, too; the same user and key make the same job there.
    """
    if installation:
        return f"{job}-{handed}-{installation}"
    return f"{job}-{handed}" if handed else job


def maker(transfer: str) -> str:
    """The id of the job that a transfer was made for."""
    return transfer.partition("-")[0]


def is_of(transfer: str, installation: str) -> bool:
    """Whether a transfer was begun under this name; what another installation has at an engine, or on its volume, is none of ours."""
    return "".join(transfer.split("-")[2:]) == installation
