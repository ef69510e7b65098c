"""Files of JSON lines that one process appends to while another reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO


class GrowingFile:
    """A file of JSON lines, read on from where the last call ended; the file may not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def new(self) -> list[dict[str, Any]]:
        """Return the lines that were completed since the last call; a line without its line break waits."""
        if not self.path.exists():
            return []
        found = []
        with self.path.open("rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                found.append(json.loads(line))
        return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return a file's complete lines; none if it does not exist."""
    return GrowingFile(path).new()


def open_to_append(path: Path) -> TextIO:
    """Open a file to append lines to it; an incomplete last line, which an interrupted write left, is removed."""
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("rb+") as stream:
                stream.truncate(whole)
    return path.open("a", encoding="utf-8", buffering=1)
