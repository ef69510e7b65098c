"""That a run removes its own shared memory, and nobody else's of the same names."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from guidelines_core.launch import shared_memory
from guidelines_core.launch.shared_memory import Segment, Watch, recorded, remove

# Makes a segment and maps it, until its standard input ends.
HOLDER = """
import mmap, sys
with open("/dev/shm/" + sys.argv[1], "w+b") as segment:
    segment.truncate(64)
    mapped = mmap.mmap(segment.fileno(), 64)
print("here", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def names() -> Iterator[list[str]]:
    """Return names as Python, verl and joblib give them; what has them is removed at the end."""
    made = [f"{kind}{uuid.uuid4().hex[:12]}" for kind in ("psm_", "verl_weights_", "sem.loky-1-", "psm_", "psm_ x ")]
    yield made
    for name in made:
        (shared_memory.SHARED / name).unlink(missing_ok=True)


def foreign(name: str, mapped: bool = False) -> mmap.mmap | None:
    with (shared_memory.SHARED / name).open("w+b") as segment:
        segment.truncate(64)
        return mmap.mmap(segment.fileno(), 64) if mapped else None


def holder(name: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def test_only_what_the_runs_processes_made_is_removed(tmp_path: Path, names: list[str]) -> None:
    before, unmapped, held, own, odd = names
    foreign(before)
    held_by_us: list[psutil.Process] = []
    watch = Watch(tmp_path, lambda: held_by_us)
    foreign(unmapped)
    kept = foreign(held, mapped=True)
    makers = [holder(own), holder(odd)]
    held_by_us += [psutil.Process(maker.pid) for maker in makers]
    watch.scan()
    for maker in makers:
        kill(maker)
    watch.scan()
    assert {segment.name for segment in recorded(tmp_path)} == {own, odd}
    assert {segment.name for segment in remove(recorded(tmp_path))} == {own, odd}
    there = {segment.name for segment in shared_memory.present()}
    assert {before, unmapped, held} <= there
    assert not {own, odd} & there
    assert kept is not None


def test_a_segment_of_a_process_whose_mappings_cannot_be_read_stays(
    tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(tmp_path, list)
    process = holder(names[0])
    unreadable, read = f"/proc/{process.pid}/maps", Path.read_text

    def refuse(path: Path, *args: str, **kwargs: str) -> str:
        if str(path) == unreadable:
            raise PermissionError(path)
        return read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuse)
    watch.scan()
    assert remove(recorded(tmp_path)) == []
    assert (shared_memory.SHARED / names[0]).exists()
    kill(process)


def test_a_later_segment_of_the_same_name_stays(tmp_path: Path, names: list[str]) -> None:
    makers: list[psutil.Process] = []
    watch = Watch(tmp_path, lambda: makers)
    process = holder(names[0])
    makers.append(psutil.Process(process.pid))
    watch.scan()
    kill(process)
    (shared_memory.SHARED / names[0]).unlink()
    foreign(names[3])  # takes the place that an inode number of its own could have had
    foreign(names[0])
    assert remove(recorded(tmp_path)) == []
    assert (shared_memory.SHARED / names[0]).exists()


def test_what_another_process_maps_is_not_removed(tmp_path: Path, names: list[str]) -> None:
    process = holder(names[0])
    (segment,) = (segment for segment in shared_memory.present() if segment.name == names[0])
    assert remove([segment]) == []
    kill(process)
    assert remove([segment]) == [segment]


def test_mappings_are_read_only_when_something_is_new(tmp_path: Path, names: list[str]) -> None:
    scans: list[float] = []

    def processes() -> list[psutil.Process]:
        scans.append(time.monotonic())
        return []

    watch = Watch(tmp_path, processes)
    watch.scan()
    foreign(names[0])
    for _ in range(3 * shared_memory.SCANS):
        watch.scan()
    assert len(scans) < 3 * shared_memory.SCANS  # other programs may make some meanwhile


def test_half_a_line_of_the_record_is_no_segment(tmp_path: Path) -> None:
    (tmp_path / shared_memory.RECORD).write_text("12 psm_a\n3 psm_b c\n45 psm")
    assert recorded(tmp_path) == {Segment(12, "psm_a"), Segment(3, "psm_b c")}
    assert recorded(tmp_path / "none") == set()


def test_a_watch_needs_no_folder_any_more(tmp_path: Path, names: list[str]) -> None:
    process = holder(names[0])
    watch = Watch(tmp_path / "gone", lambda: [psutil.Process(process.pid), psutil.Process(os.getpid())])
    second = holder(names[1])
    watch.scan()
    assert recorded(tmp_path / "gone") == set()
    kill(process)
    kill(second)
