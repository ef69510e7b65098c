"""Which segments of shared memory are a run's: noted while its processes map them, removed when those have ended.

A process that is killed cannot unlink its segments, and neither their names nor their age say whose they are.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

SHARED = Path("/dev/shm")
RECORD = "segments"
"""The file, in an attempt's folder, that lists its segments: a line `INODE NAME` each."""

LOOKS = 4
"""How often a new segment is looked for among a run's mappings before it counts as somebody else's."""


class Segment(NamedTuple):
    """A segment: its inode number, which a later segment of the same name does not have, and its name."""

    inode: int
    name: str


def present() -> set[Segment]:
    """Return every segment of this machine."""
    with os.scandir(SHARED) as entries:
        return {Segment(entry.inode(), entry.name) for entry in entries if entry.is_file(follow_symlinks=False)}


def mapped(processes: Iterable[psutil.Process]) -> set[Segment]:
    """Return the segments that `processes` map; one whose mappings cannot be read adds none."""
    found = set()
    for process in processes:
        try:
            maps = Path(f"/proc/{process.pid}/maps").read_text(errors="surrogateescape")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        for line in maps.splitlines():
            if f" {SHARED}/" in line:
                _, _, _, _, inode, path = line.split(maxsplit=5)
                found.add(Segment(int(inode), path.removeprefix(f"{SHARED}/")))
    return found


class Watch:
    """Notes, in `folder`, the segments that come into being and that an attempt's processes map.

    Args:
        folder: the attempt's.
        processes: returns the attempt's living processes.
    """

    def __init__(self, folder: Path, processes: Callable[[], Collection[psutil.Process]]) -> None:
        self._record = folder / RECORD
        self._processes = processes
        self._settled = present()
        self._looks: Counter[Segment] = Counter()

    def look(self) -> None:
        """Note what is new; reads the processes' mappings only if a segment has come into being."""
        new = present() - self._settled
        if not new:
            return
        own = new & mapped(self._processes())
        if own and self._record.parent.is_dir():
            with self._record.open("a", errors="surrogateescape") as record:
                record.writelines(f"{segment.inode} {segment.name}\n" for segment in sorted(own))
        self._looks.update(new)
        self._settled |= own | {segment for segment in new if self._looks[segment] >= LOOKS}


def recorded(folder: Path) -> set[Segment]:
    """Return the segments that were noted in an attempt's folder."""
    record = folder / RECORD
    if not record.exists():
        return set()
    # A line that was being written when its process was killed has no end.
    whole = [line for line in record.read_text(errors="surrogateescape").splitlines(keepends=True) if line[-1] == "\n"]
    pairs = (line.rstrip("\n").split(" ", 1) for line in whole)
    return {Segment(int(inode), name) for inode, name in pairs}


def remove(segments: Collection[Segment]) -> list[Segment]:
    """Remove those of `segments` that are there still and that no process is seen to map; return them."""
    there = set(segments) & present()
    gone = sorted(there - mapped(psutil.process_iter())) if there else []
    for segment in gone:
        (SHARED / segment.name).unlink(missing_ok=True)
    return gone
