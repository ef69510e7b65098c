"""SHA-256 digests of files and texts, and seeds derived from texts."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hex digits; the file may be larger than the memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def text_sha256(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes in hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def text_seed(text: str) -> int:
    """Return a seed of 32 bits that depends on `text` alone: the first bytes of its SHA-256."""
    return int(text_sha256(text)[:8], 16)
