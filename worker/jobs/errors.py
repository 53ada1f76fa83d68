"""The three answers to "what now?": tell the user, try again, or give up.

Every exception of a library is mapped to one of these where the library is called.
"""

from __future__ import annotations


class HaulError(Exception):
    """Base of all errors Haul raises on purpose; the message is written for a person."""


class Rejected(HaulError):
    """The request cannot be taken as it is; nothing was recorded.

    Attributes:
        field: the input at fault, as the caller named it.
        fix: what to send instead.
        retry_after_s: seconds after which the same request may succeed, or None when it never will.
    """

    def __init__(self, field: str, message: str, *, fix: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(f"{field}: {message}" + (f" ({fix})" if fix else ""))
        self.field = field
        self.detail = message
        self.fix = fix
        self.retry_after_s = retry_after_s


class Conflict(Rejected):
    """The request contradicts a record: a known key with another source, or a state that does not allow the action."""


class NoRoom(Rejected):
    """No disk of ours will ever have room for what is asked for."""


class NotFound(Rejected):
    """No such job."""


class Transient(HaulError):
    """A service did not answer or answered with a passing fault; the same call may be made again.

    Attributes:
        service: which one (`store`, `redis`, `engine aria2`), for people.
        detail: the message without the service.
    """

    def __init__(self, service: str, message: str) -> None:
        super().__init__(f"{service}: {message}")
        self.service = service
        self.detail = message

    def __reduce__(self) -> tuple[type[Transient], tuple[str, str]]:
        """Celery copies the exceptions of its tasks by pickle."""
        return type(self), (self.service, self.detail)


class LeaseLost(Transient):
    """A write carried a fencing token that is no longer current; the holder must stop touching what it held."""


class Failed(HaulError):
    """Final for this attempt, with a cause from `worker.jobs.states.Cause`."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause
