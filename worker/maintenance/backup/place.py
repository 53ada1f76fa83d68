"""Where backups lie and how they are made, from the settings."""

from __future__ import annotations

from dataclasses import dataclass

from worker.maintenance.backup.catalogue import Shelf
from worker.maintenance.backup.key import Key, read_key, read_or_make_key
from worker.notation.keep import Keep
from worker.settings import Settings, SettingsError


@dataclass(frozen=True, slots=True)
class Place:
    """Where backups lie and how they are made.

    Attributes:
        copy: a second directory that has each backup, too.
        key: None when nothing is encrypted.
        zone: name of the time zone whose days, weeks and months count.
    """

    shelf: Shelf
    copy: Shelf | None
    key: Key | None
    keep: Keep
    zone: str
    rate: int


def place_of(settings: Settings, *, making: bool = False) -> Place:
    """The place these settings name.

    Args:
        making: a backup is to be made: where nothing is said of a key, one is.

    Raises:
        SettingsError: the key cannot be read.
    """
    directory, copy = settings.backup_dir or settings.data_dir / "backups", settings.backup_copy_dir
    if copy is not None and copy.resolve() == directory.resolve():
        raise SettingsError(f"HAUL_BACKUP_COPY_DIR: {copy} is where the backups are already; name another disk")
    key = read_or_make_key(settings) if making else read_key(settings)
    return Place(Shelf(directory), Shelf(copy) if copy else None, key, settings.backup_keep, settings.timezone, settings.backup_rate)
