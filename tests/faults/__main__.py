"""Writes docs/faults.md anew."""

from __future__ import annotations

from tests.faults.catalogue import DOCUMENT, document

DOCUMENT.parent.mkdir(exist_ok=True)
DOCUMENT.write_text(document())
