"""The key that backups are encrypted with: a file, and what is derived from it for each part."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from worker.settings import Settings, SettingsError

#: What HAUL_BACKUP_KEY_FILE says when backups are not to be encrypted.
NONE = "none"
KEY_BYTES = 32
SALT_BYTES = 16
ID_CHARS = 16


class Key:
    """One key. Of each backup and each part of it another one is derived, so that no two ever share a nonce.

    Attributes:
        id: tells keys apart and says nothing of them.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.id = hashlib.sha256(b"haul backup key\0" + secret).hexdigest()[:ID_CHARS]

    def cipher(self, salt: bytes, part: str) -> AESGCM:
        """What encrypts one part of the backup with this salt."""
        return AESGCM(self._derived(salt, f"part {part}"))

    def seal(self, salt: bytes, text: bytes) -> str:
        """What nobody without the key can make for another text (HMAC-SHA256)."""
        return hmac.new(self._derived(salt, "manifest"), text, hashlib.sha256).hexdigest()

    def _derived(self, salt: bytes, what: str) -> bytes:
        return HKDF(SHA256(), KEY_BYTES, salt, f"haul backup {what}".encode()).derive(self._secret)


def key_path(settings: Settings) -> Path | None:
    """The file that holds the key, there or not; None when backups are not to be encrypted."""
    chosen = settings.backup_key_file
    if chosen is None:
        return settings.data_dir / "backup.key"
    return None if str(chosen) == NONE else chosen.expanduser().absolute()


def is_own(settings: Settings) -> bool:
    """True when the key is the one Haul made for itself, beside the records: nobody has said yet that there is another copy of it."""
    return settings.backup_key_file is None


def read_key(settings: Settings) -> Key | None:
    """The key, or None when there is none.

    Raises:
        SettingsError: the file that was named cannot be read, or holds no key.
    """
    path = key_path(settings)
    if path is None:
        return None
    try:
        secret = path.read_bytes().strip()
    except FileNotFoundError:
        if is_own(settings):
            return None
        raise SettingsError(f"HAUL_BACKUP_KEY_FILE: there is no {path}; make one with: openssl rand -hex 32") from None
    except OSError as error:
        raise SettingsError(f"HAUL_BACKUP_KEY_FILE: cannot read {path}: {error.strerror}") from None
    if len(secret) < KEY_BYTES:
        raise SettingsError(f"HAUL_BACKUP_KEY_FILE: {path} holds less than {KEY_BYTES} bytes; make a key with: openssl rand -hex 32")
    return Key(secret)


def read_or_make_key(settings: Settings) -> Key | None:
    """As `read_key`; where nothing is set the key is made, once, for the owner alone to read."""
    key, path = read_key(settings), key_path(settings)
    if key or path is None:
        return key
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(secrets.token_hex(KEY_BYTES) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(fresh, path)  # of two that make one at once the first counts
        except FileExistsError:
            pass
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"HAUL_BACKUP_KEY_FILE: cannot make {path}: {error.strerror}") from None
    return read_key(settings)
