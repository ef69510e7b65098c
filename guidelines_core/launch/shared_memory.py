"""Records a run's segments of shared memory while its processes map them, and removes them afterwards.

A killed process cannot unlink its segments, and neither their names nor their age tell to which run they belong.
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

SCANS = 4
"""How often a new segment is looked up in the run's mappings before it counts as another program's."""


class Segment(NamedTuple):
    """A segment: its inode number, which differs from that of a later segment with the same name, and its name."""

    inode: int
    name: str


def present() -> set[Segment]:
    """Return every segment of this machine."""
    with os.scandir(SHARED) as entries:
        return {Segment(entry.inode(), entry.name) for entry in entries if entry.is_file(follow_symlinks=False)}


def mapped(processes: Iterable[psutil.Process]) -> set[Segment]:
    """Return the segments that `processes` map, without processes whose mappings cannot be read."""
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
    """Records, in `folder`, new segments that an attempt's processes map.

    Args:
        folder: the attempt's.
        processes: returns the attempt's processes.
    """

    def __init__(self, folder: Path, processes: Callable[[], Collection[psutil.Process]]) -> None:
        self._record = folder / RECORD
        self._processes = processes
        self._settled = present()
        self._scans: Counter[Segment] = Counter()

    def scan(self) -> None:
        """Record new segments; reads the processes' mappings only if there is a new segment."""
        new = present() - self._settled
        if not new:
            return
        own = new & mapped(self._processes())
        if own and self._record.parent.is_dir():
            with self._record.open("a", errors="surrogateescape") as record:
                record.writelines(f"{segment.inode} {segment.name}\n" for segment in sorted(own))
        self._scans.update(new)
        self._settled |= own | {segment for segment in new if self._scans[segment] >= SCANS}


def recorded(folder: Path) -> set[Segment]:
    """Return the segments that were recorded in an attempt's folder."""
    record = folder / RECORD
    if not record.exists():
        return set()
    # An interrupted write leaves a line without its end.
    whole = [line for line in record.read_text(errors="surrogateescape").splitlines(keepends=True) if line[-1] == "\n"]
    pairs = (line.rstrip("\n").split(" ", 1) for line in whole)
    return {Segment(int(inode), name) for inode, name in pairs}


def remove(segments: Collection[Segment]) -> list[Segment]:
    """Remove those of `segments` that still exist and that no process maps; return them."""
    there = set(segments) & present()
    gone = sorted(there - mapped(psutil.process_iter())) if there else []
    for segment in gone:
        (SHARED / segment.name).unlink(missing_ok=True)
    return gone
