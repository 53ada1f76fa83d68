"""The addresses of stores as a command is given them, without their secrets wherever they are shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from worker.jobs.errors import Rejected
from worker.store import SQLITE, open_store, sqlite_path

if TYPE_CHECKING:
    from worker.ports import JobStore
    from worker.settings import Settings

VARIABLE = "HAUL_STORE_URL"


@dataclass(frozen=True, slots=True)
class Address:
    """One store's address.

    Attributes:
        word: what the user calls it, for messages.
        url: may hold a password.
        setting: what to set so that Haul uses this store; holds no secret.
    """

    word: str
    url: str = field(repr=False)
    setting: str

    @staticmethod
    def of(word: str, text: str) -> Address:
        """The address a user wrote: a URL, or `@FILE` for a file that holds one.

        Raises:
            Rejected: the file cannot be read.
        """
        if not text.startswith("@"):
            whole = shown(text) == text
            return Address(word, text, f"{VARIABLE}={text}" if whole else f"{VARIABLE} to the address you gave, {shown(text)}")
        path = Path(text[1:]).expanduser().absolute()
        try:
            return Address(word, path.read_text(encoding="utf-8").strip(), f"{VARIABLE}_FILE={path}")
        except (OSError, UnicodeDecodeError) as error:
            raise Rejected(word, f"cannot read {path}: {getattr(error, 'strerror', 'it is no text')}") from None

    @property
    def shown(self) -> str:
        """The URL without user, password and options."""
        return shown(self.url)

    @property
    def path(self) -> Path | None:
        """The file of an SQLite store."""
        return sqlite_path(self.url)

    def open(self, settings: Settings) -> JobStore:
        """The store; it is made when it is not there.

        Raises:
            Rejected: the address cannot be used.
            Transient: the store does not answer.
        """
        from worker.settings import SettingsError

        try:
            return open_store(self.url, profile=settings.profile)
        except SettingsError as error:
            raise Rejected(self.word, str(error).removeprefix(f"{VARIABLE}: ")) from None


def shown(url: str) -> str:
    """A store's URL without user, password and options; what is not written as it should be may hide them anywhere, so "…"."""
    if url.startswith(SQLITE):
        return url
    scheme, mark, rest = url.partition("://")
    place, _, query = rest.partition("?")
    if not mark or rest.count("@") > 1 or "@" in query:
        return f"{scheme}{mark}…" if mark else "…"
    return scheme + mark + place.rpartition("@")[2]
