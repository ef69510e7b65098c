from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from guidelines_core.runs.checkpoints import (
    SEAL,
    TRACKER,
    Checkpoint,
    choose,
    fault,
    last_checkpoint,
    prune,
    room,
    seal,
    sealed,
    superfluous,
)


def written(directory: Path, step: int, accuracy: float | None = None, *, whole: bool = True) -> Path:
    """Write a checkpoint as verl does, sealed if `whole`, and verl's tracker."""
    folder = directory / f"global_step_{step}"
    (folder / "actor").mkdir(parents=True)
    (folder / "actor/model.pt").write_bytes(bytes(range(256)) * 100)
    (folder / "data.pt").write_bytes(b"where the data stand")
    if whole:
        seal(folder, accuracy)
    (directory / TRACKER).write_text(str(step))
    return folder


def truncate(folder: Path) -> None:
    with (folder / "actor/model.pt").open("r+b") as file:
        file.truncate(1000)


def flip_a_bit(folder: Path) -> None:
    path = folder / "actor/model.pt"
    content = bytearray(path.read_bytes())
    content[12345] ^= 1
    path.write_bytes(content)


BREAKAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncate, "actor/model.pt has 1000 bytes instead of 25600"),
    "bit": (flip_a_bit, "actor/model.pt has other content"),
    "missing": (lambda folder: (folder / "data.pt").unlink(), "data.pt is missing"),
    "no seal": (lambda folder: (folder / SEAL).unlink(), "not written to its end"),
    "half a seal": (lambda folder: (folder / SEAL).write_text('{"files": {"data'), "cannot be read"),
    "an empty seal": (lambda folder: (folder / SEAL).write_text("[]"), "cannot be read"),
}


@pytest.mark.parametrize("kind", BREAKAGES)
def test_a_broken_checkpoint_is_set_aside_and_the_one_before_is_chosen(tmp_path: Path, kind: str) -> None:
    older = written(tmp_path, 2)
    newer = written(tmp_path, 4)
    breakage, said = BREAKAGES[kind]
    breakage(newer)
    chosen, lines = choose(tmp_path)
    assert chosen == older
    assert (tmp_path / TRACKER).read_text() == "2"
    assert len(lines) == 1
    assert "global_step_4" in lines[0]
    assert said in lines[0]
    assert (tmp_path / "global_step_4.broken").is_dir()
    assert last_checkpoint(tmp_path) == 2
    assert choose(tmp_path) == (older, [])


def test_the_newest_whole_checkpoint_is_chosen_by_number(tmp_path: Path) -> None:
    written(tmp_path, 10)
    written(tmp_path, 9)
    chosen, lines = choose(tmp_path)
    assert (chosen, lines) == (tmp_path / "global_step_10", [])
    assert (tmp_path / TRACKER).read_text() == "10"


def test_without_a_whole_checkpoint_verl_finds_none_either(tmp_path: Path) -> None:
    written(tmp_path, 2, whole=False)
    chosen, lines = choose(tmp_path)
    assert chosen is None
    assert len(lines) == 1
    assert not (tmp_path / TRACKER).exists()
    assert choose(tmp_path) == (None, [])


def test_broken_twice_at_one_step_keeps_both(tmp_path: Path) -> None:
    for _ in range(2):
        written(tmp_path, 2, whole=False)
        choose(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"global_step_2.broken", "global_step_2.broken-2"}


def test_a_seal_is_no_part_of_what_it_seals(tmp_path: Path) -> None:
    folder = written(tmp_path, 2)
    seal(folder)
    assert fault(folder) is None


@pytest.mark.parametrize(
    ("keep_last", "keep_best", "deleted"),
    [
        (None, 0, []),
        (1, 0, [2, 4, 6]),
        (1, 1, [2, 6]),
        (2, 1, [2]),
        (1, 2, [6]),
        (9, 0, []),
    ],
)
def test_the_last_and_the_best_are_kept(keep_last: int | None, keep_best: int, deleted: list[int]) -> None:
    accuracies = {2: 0.5, 4: 0.7, 6: None, 8: 0.1}
    checkpoints = [Checkpoint(step, Path(f"global_step_{step}"), value) for step, value in accuracies.items()]
    assert [checkpoint.step for checkpoint in superfluous(checkpoints, keep_last, keep_best)] == deleted


def test_pruning_deletes_folders_and_never_the_best(tmp_path: Path) -> None:
    for step, accuracy in ((2, 0.9), (4, 0.1), (6, 0.2)):
        written(tmp_path, step, accuracy)
    (tmp_path / "global_step_1.deleted").mkdir()
    prune(tmp_path, keep_last=1, keep_best=1)
    assert [checkpoint.step for checkpoint in sealed(tmp_path)] == [2, 6]
    assert {path.name for path in tmp_path.iterdir()} == {"global_step_2", "global_step_6", TRACKER}


def test_room_is_how_many_more_such_checkpoints_the_disk_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"x" * 400)
    (tmp_path / "b").write_bytes(b"x" * 600)
    seal(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2500))
    assert room(tmp_path) == 2.5
