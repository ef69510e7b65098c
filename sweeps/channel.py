"""The interface between a sweep and its trainer: two files of JSON lines in the trainer's folder.

The sweep writes commands, the trainer writes events. A command is `{"name", "config", "began"}`: the name of a trial to
measure, its configuration's file, and when it began, in seconds since 1970. Events are `{"event": "ready"}` once, and
for each trial `{"event": "end", "name", "how", "reason"}` with `how` one of done, stopped, failed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from guidelines_core.json_lines import GrowingFile

FOLDER = "GUIDELINES_SWEEP_FOLDER"
"""The environment variable with the folder of the two files, for the trainer's processes."""

COMMANDS, EVENTS = "commands.jsonl", "events.jsonl"


class Lines(GrowingFile):
    """A file of JSON lines that one process writes and another reads as it grows."""

    def write(self, **line: Any) -> None:
        """Append one line."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def stop_file(folder: Path, name: str) -> Path:
    """Return the path of the file that ends trial `name` after the step under way, once it exists."""
    return folder / f"stop-{name}"
