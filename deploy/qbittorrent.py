"""Runs qbittorrent-nox with the password of a file, which stands neither on the command line nor in the environment.

It rewrites its configuration as it runs, so that is made anew at each start.
"""

import base64
import hashlib
import os
import secrets
from pathlib import Path

PROFILE = Path("/profile")
CONFIG = PROFILE / "qBittorrent/config/qBittorrent.conf"
PROGRAM = "/usr/bin/qbittorrent-nox"
#: How qBittorrent stores a password: `Utils::Password::PBKDF2` of its source.
HASH, HASH_ROUNDS, SALT_BYTES = "sha512", 100_000, 16


def stored(password: str) -> str:
    """The password as the configuration has it."""
    salt = secrets.token_bytes(SALT_BYTES)
    digest = hashlib.pbkdf2_hmac(HASH, password.encode(), salt, HASH_ROUNDS)
    return f"{base64.b64encode(salt).decode()}:{base64.b64encode(digest).decode()}"


if __name__ == "__main__":
    password = Path(os.environ["QBITTORRENT_PASSWORD_FILE"]).read_text().strip()
    settings = Path("/etc/haul/qbittorrent.conf").read_text()
    CONFIG.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    CONFIG.write_text(f'{settings}WebUI\\Password_PBKDF2="@ByteArray({stored(password)})"\n')
    os.execv(PROGRAM, [PROGRAM, f"--profile={PROFILE}"])  # noqa: S606 - there is no shell, and nothing of the environment in it
