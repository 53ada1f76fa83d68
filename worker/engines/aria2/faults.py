"""What aria2's error codes mean for a job.

The codes are those of aria2's manual ("EXIT STATUS"); code 1 stands for much, so its text is looked at. The words here are
for people and our own: aria2's may hold the address with its secrets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from worker.engines.volume import NO_SPACE
from worker.jobs.retries import answered
from worker.jobs.states import Cause, Reason
from worker.ports import Fault

_STATUS = re.compile(r"status=(\d{3})")
NO_ADDRESS = "No URI available"
#: Codes for files that cannot be made or written, whatever the reason; the text tells when it is a full disk.
FTP_CODE = 21
FILE_CODES, FULL = frozenset({14, 15, 16, 17, 18}), ("No space left", "Disk quota exceeded")

_TOO_SLOW = Fault(Cause.INTERRUPTED, True, "the download was too slow")
#: aria2 has each torrent once; what it says of a second one is no failure, for the first ends.
_ALREADY = Fault(Cause.ENGINE, True, "aria2 has the same torrent for another job", wait=Reason.DUPLICATE)
#: No two jobs share a directory, so it is one source that names a file, or a torrent, twice.
TWICE = Fault(Cause.SOURCE, False, "the source names the same file or torrent twice")
#: Before 1.37 aria2 computes a wrong infohash for torrents of both versions, so no peer and no tracker knows it.
MISREAD = Fault(Cause.UNSUPPORTED, False, "this aria2 cannot read torrents of both versions: install aria2 1.37", elsewhere=True)
_BAD_TORRENT = Fault(Cause.SOURCE, False, "the torrent is broken")
_CUT = Fault(Cause.INTERRUPTED, True, "the connection broke again and again")
UNKNOWN = Fault(Cause.ENGINE, True, "aria2 gave up without saying why", elsewhere=True)
_UNREADABLE = Fault(Cause.HTTP, False, "the server's answer cannot be read")
_NO_CONNECTION = Fault(Cause.UNREACHABLE, True, "no connection to the server")
_OPTION = Fault(Cause.ENGINE, False, "aria2 refused an option", elsewhere=True)
#: aria2 tells no status here, only its last word, that no address is left.
REST_REFUSED = Fault(Cause.INTERRUPTED, True, "the connection broke, and the server refused the rest", anew=True)
_FORBIDDEN = Fault(Cause.FORBIDDEN, False, "the server wants a user name and password, or other ones")
_NO_FILE = Fault(Cause.HTTP, False, "the server did not answer with the file")

#: Codes that stand for a status, which aria2's text tells; and what they mean when it does not.
OF_STATUS: Mapping[int, Fault] = {
    22: _NO_FILE,
    29: Fault(Cause.BUSY, True, "the server is overloaded or under maintenance"),
}
BY_CODE: Mapping[int, Fault] = {
    2: Fault(Cause.UNREACHABLE, True, "the server did not answer in time"),
    3: Fault(Cause.NOT_FOUND, False, "the server says there is no such file"),
    4: Fault(Cause.NOT_FOUND, False, "the server said several times that there is no such file"),
    5: _TOO_SLOW,
    6: Fault(Cause.UNREACHABLE, True, "the network failed"),
    7: Fault(Cause.INTERRUPTED, True, "aria2 was stopped before the end"),
    8: Fault(Cause.INTERRUPTED, False, "the server cannot continue a broken download", anew=True),
    9: NO_SPACE,
    10: Fault(Cause.DISK, False, "what is on the disk does not fit the file any more", anew=True),
    11: TWICE,
    12: _ALREADY,
    13: Fault(Cause.DISK, False, "a file of that name is in the way", elsewhere=True),
    14: Fault(Cause.DISK, False, "the file could not be renamed", elsewhere=True),
    15: Fault(Cause.DISK, False, "a file on the disk could not be opened", elsewhere=True),
    16: Fault(Cause.DISK, False, "the file could not be created", elsewhere=True),
    17: Fault(Cause.DISK, False, "the disk reported an error", elsewhere=True),
    18: Fault(Cause.DISK, False, "the directory could not be created", elsewhere=True),
    19: Fault(Cause.UNREACHABLE, True, "the server's name cannot be resolved"),
    20: Fault(Cause.SOURCE, False, "the metalink document is broken"),
    21: Fault(Cause.HTTP, False, "the FTP server refused the command"),
    23: Fault(Cause.HTTP, False, "too many redirects"),
    24: _FORBIDDEN,
    25: _BAD_TORRENT,
    26: _BAD_TORRENT,
    27: Fault(Cause.SOURCE, False, "the magnet link is broken"),
    28: _OPTION,
    30: Fault(Cause.ENGINE, True, "aria2 could not read the request", elsewhere=True),
    32: Fault(Cause.CHECKSUM, False, "the checksum does not match", elsewhere=True, anew=True),
}

#: For code 1 and for calls that were refused; the first that occurs in aria2's text counts.
BY_TEXT: tuple[tuple[str, Fault], ...] = (
    ("Connection refused", Fault(Cause.UNREACHABLE, True, "the server refuses connections")),
    ("SSL/TLS handshake failure", Fault(Cause.UNREACHABLE, False, "no secure connection could be made (TLS)")),
    ("Failed to establish connection", _NO_CONNECTION),
    ("Failed to connect", _NO_CONNECTION),
    ("Network problem", _NO_CONNECTION),
    (NO_ADDRESS, _CUT),
    ("EOF", _CUT),
    ("Connection reset", _CUT),
    ("Failed to receive", _CUT),
    ("Failed to send", _CUT),
    ("HTTP header", _UNREADABLE),
    ("Bad status code", _UNREADABLE),
    ("must be positive integer", _UNREADABLE),
    ("Bad chunk size", _UNREADABLE),
    ("Transfer encoding", _UNREADABLE),
    ("may not be a valid URI", Fault(Cause.HTTP, False, "the server redirects to an address that aria2 cannot fetch")),
    ("Bencode", _BAD_TORRENT),
    ("torrent metainfo", _BAD_TORRENT),
    ("Download aborted", Fault(Cause.ENGINE, False, "aria2 cannot go on from what is on the disk", elsewhere=True, anew=True)),
    ("No URI to download", Fault(Cause.SOURCE, False, "aria2 cannot read this address")),
    ("processing the option", _OPTION),
)
#: For code 21, in the same way: FTP's own statuses, and its second connection, which carries the file.
FTP_TEXT: tuple[tuple[str, Fault], ...] = (
    ("status=530", _FORBIDDEN),
    ("Connection failed", Fault(Cause.BUSY, True, "the FTP server takes no more connections now")),
    ("Failed to establish connection", _NO_CONNECTION),
    (NO_ADDRESS, _CUT),
)


def fault(code: str, text: str) -> Fault:
    """The fault for an error code of a stopped download, or for code 1 and the text of a refused call."""
    number = int(code) if code.isdecimal() else 1
    if number in OF_STATUS:
        match = _STATUS.search(text)
        if match is None:
            return REST_REFUSED if number == 22 and NO_ADDRESS in text else OF_STATUS[number]
        said = answered(int(match[1]))
        return Fault(said.cause, said.passing, said.text, anew=said.anew)
    if number in FILE_CODES and any(words in text for words in FULL):
        return NO_SPACE
    told = FTP_TEXT if number == FTP_CODE else () if number in BY_CODE else BY_TEXT
    return next((found for words, found in told if words in text), BY_CODE.get(number, UNKNOWN))
