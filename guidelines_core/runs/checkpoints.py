"""A run's checkpoints: sealed when complete, verified before a resume, pruned.

verl writes `global_step_N/` file by file. A checkpoint is complete when it has a seal: `manifest.json` with the size
and checksum of every file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

SEAL = "manifest.json"
TRACKER = "latest_checkpointed_iteration.txt"
"""verl's record of the newest checkpoint (`trainer_base.py`), written before the seal and not atomically."""


@dataclass(frozen=True)
class Checkpoint:
    """A sealed checkpoint.

    Attributes:
        step: the step after which it was written.
        folder: `global_step_N`.
        accuracy: the validation accuracy at that step, None without validation.
    """

    step: int
    folder: Path
    accuracy: float | None


def seal(folder: Path, accuracy: float | None = None) -> None:
    """Seal `folder`: sync its files to the disk, then write their sizes and checksums atomically."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SEAL)
    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(_written, files))
    entries = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "crc32": checksum}
        for path, checksum in zip(files, sums, strict=True)
    }
    write_atomically(folder / SEAL, json.dumps({"accuracy": accuracy, "files": entries}, indent=1))


def room(folder: Path) -> float:
    """Return how many checkpoints as large as the sealed one in `folder` still fit on its disk."""
    files: dict[str, dict[str, int]] = json.loads((folder / SEAL).read_text())["files"]
    return shutil.disk_usage(folder).free / max(1, sum(entry["bytes"] for entry in files.values()))


def unseal(folder: Path) -> None:
    """Remove the seal of `folder` before it is written again."""
    (folder / SEAL).unlink(missing_ok=True)


def fault(folder: Path, *, checksums: bool = True) -> str | None:
    """Return in a few words why the checkpoint in `folder` is incomplete or damaged, None if it is not.

    Without `checksums` only the files' presence and sizes are checked.
    """
    try:
        files: dict[str, dict[str, int]] = json.loads((folder / SEAL).read_text())["files"]
    except FileNotFoundError:
        return f"it was not written to its end: it has no {SEAL}"
    except (ValueError, KeyError, TypeError):
        return f"its {SEAL} cannot be read"
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if (size := path.stat().st_size) != entry["bytes"]:
            return f"{name} has {size} bytes instead of {entry['bytes']}"
    if checksums:
        with ThreadPoolExecutor(4) as pool:
            for name, found in zip(files, pool.map(_checksum, (folder / name for name in files)), strict=True):
                if found != files[name]["crc32"]:
                    return f"{name} has other content than was written (crc32)"
    return None


def sealed(directory: Path) -> list[Checkpoint]:
    """Return the sealed checkpoints under `directory` whose files have the right sizes, oldest first."""
    return [
        Checkpoint(step, folder, json.loads((folder / SEAL).read_text())["accuracy"])
        for step, folder in _folders(directory)
        if fault(folder, checksums=False) is None
    ]


def last_checkpoint(directory: Path) -> int:
    """Return the step of the newest sealed checkpoint, 0 if there is none."""
    return max((checkpoint.step for checkpoint in sealed(directory)), default=0)


def best(checkpoints: Sequence[Checkpoint], count: int = 1) -> list[Checkpoint]:
    """Return the `count` checkpoints with the highest validation accuracy, the newer first for equal ones."""
    validated = [checkpoint for checkpoint in checkpoints if checkpoint.accuracy is not None]
    return sorted(validated, key=lambda checkpoint: (checkpoint.accuracy, checkpoint.step), reverse=True)[:count]


def choose(directory: Path) -> tuple[Path | None, list[str]]:
    """Return the newest intact checkpoint, verified by checksums, and a line for each newer one that is not intact.

    Those are renamed to `global_step_N.broken`. verl's tracker file is set to the chosen one.
    """
    lines: list[str] = []
    chosen: Path | None = None
    for _, folder in reversed(_folders(directory)):
        reason = fault(folder)
        if reason is None:
            chosen = folder
            break
        aside = _set_aside(folder)
        lines.append(f"{folder.name} is not resumed from, {reason}; it was set aside as {aside.name}")
    if chosen is None:
        (directory / TRACKER).unlink(missing_ok=True)
    else:
        write_atomically(directory / TRACKER, str(_step(chosen)))
    return chosen, lines


def superfluous(checkpoints: Sequence[Checkpoint], keep_last: int | None, keep_best: int) -> list[Checkpoint]:
    """Return which of `checkpoints` to delete: all but the newest `keep_last` (None: all) and the `keep_best` best."""
    if keep_last is None:
        return []
    by_step = sorted(checkpoints, key=lambda checkpoint: checkpoint.step)
    kept = {checkpoint.step for checkpoint in (*by_step[-keep_last:], *best(by_step, keep_best))}
    return [checkpoint for checkpoint in by_step if checkpoint.step not in kept]


def prune(directory: Path, keep_last: int | None, keep_best: int) -> None:
    """Delete superfluous checkpoints and what an interrupted deletion left.

    A checkpoint is renamed before it is deleted, so an interruption leaves it either complete or under another name.
    """
    for leftover in directory.glob("global_step_*.deleted"):
        shutil.rmtree(leftover)
    for checkpoint in superfluous(sealed(directory), keep_last, keep_best):
        shutil.rmtree(checkpoint.folder.rename(checkpoint.folder.with_suffix(".deleted")))


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path` atomically: after a crash, the file has either its old or its new content."""
    making = path.with_name(f".{path.name}.{os.getpid()}")
    with making.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    making.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _folders(directory: Path) -> list[tuple[int, Path]]:
    """Return the steps and folders of all checkpoints, complete or not, oldest first."""
    found = [path for path in directory.glob("global_step_*") if re.fullmatch(r"global_step_\d+", path.name)]
    return sorted((_step(path), path) for path in found)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("global_step_"))


def _set_aside(folder: Path) -> Path:
    """Rename a broken checkpoint to a name that is not used for a resume, and return the new folder."""
    number, aside = 1, folder.with_suffix(".broken")
    while aside.exists():
        number += 1
        aside = folder.with_suffix(f".broken-{number}")
    return folder.rename(aside)


def _written(path: Path) -> int:
    """Sync a file to the disk and return its checksum."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return _checksum(path)


def _checksum(path: Path) -> int:
    """Return the CRC-32 of a file's bytes; the file may be larger than the memory."""
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
    return checksum
