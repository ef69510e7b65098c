"""What holds of a run's checkpoints however it is killed, resumed, and its files are broken."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from guidelines_core.runs.checkpoints import SEAL, TRACKER, Checkpoint, best, choose, prune, seal, sealed, superfluous

ACCURACIES = st.none() | st.sampled_from([0.0, 0.25, 0.5, 1.0])
KEPT = st.dictionaries(st.integers(1, 40), ACCURACIES, max_size=8).map(
    lambda found: [Checkpoint(step, Path(f"global_step_{step}"), value) for step, value in found.items()]
)


@given(KEPT, st.none() | st.integers(1, 4), st.integers(0, 3))
def test_what_is_superfluous_is_neither_among_the_last_nor_among_the_best(
    found: list[Checkpoint], keep_last: int | None, keep_best: int
) -> None:
    deleted = {checkpoint.step for checkpoint in superfluous(found, keep_last, keep_best)}
    left = [checkpoint for checkpoint in found if checkpoint.step not in deleted]
    if keep_last is None:
        assert deleted == set()
        return
    newest = sorted(checkpoint.step for checkpoint in found)[-keep_last:]
    assert {checkpoint.step for checkpoint in left} >= set(newest)
    assert best(left, keep_best) == best(found, keep_best)
    assert len(left) <= keep_last + keep_best
    assert superfluous(left, keep_last, keep_best) == []


@given(KEPT, st.integers(1, 4))
def test_the_best_are_validated_and_none_better_is_left_out(found: list[Checkpoint], count: int) -> None:
    chosen = best(found, count)
    others = [checkpoint for checkpoint in found if checkpoint not in chosen and checkpoint.accuracy is not None]
    assert len(chosen) == min(count, len(chosen) + len(others))
    ranks = [(checkpoint.accuracy or 0.0, checkpoint.step) for checkpoint in chosen]
    assert ranks == sorted(ranks, reverse=True)
    assert all((other.accuracy or 0.0, other.step) < ranks[-1] for other in others)


class Killed(BaseException):
    """The process ends here."""


class KilledAt:
    """Ends the process at the call number `at` that changes a directory; a deletion is then half done."""

    def __init__(self, at: int) -> None:
        self._left = at

    def patches(self) -> list[Any]:
        """Return the patches of what `checkpoints` changes directories with."""
        rename, rmtree = Path.rename, shutil.rmtree

        def killed_or_rename(path: Path, target: Path) -> Path:
            self._step()
            return rename(path, target)

        def killed_or_rmtree(path: Path) -> None:
            if self._left == 0:
                (path / "model.pt").unlink(missing_ok=True)
            self._step()
            rmtree(path)

        return [
            mock.patch.object(Path, "rename", killed_or_rename),
            mock.patch.object(shutil, "rmtree", killed_or_rmtree),
        ]

    def _step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Killed


class Run(RuleBasedStateMachine):
    """A run that trains, saves, prunes, is killed and is resumed, and the checkpoints that it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.step = 0
        self.whole: dict[int, float | None] = {}
        # Whether bytes have reached the disk cannot be seen here, and waiting for it takes most of the time.
        self.fsync = mock.patch("os.fsync")
        self.fsync.start()

    @initialize(keep_last=st.integers(1, 2), keep_best=st.integers(0, 2))
    def begin(self, keep_last: int, keep_best: int) -> None:
        self.keep_last, self.keep_best = keep_last, keep_best

    @rule(accuracy=ACCURACIES, killed_at=st.none() | st.integers(0, 3))
    def save(self, accuracy: float | None, killed_at: int | None) -> None:
        """Train a step, write its checkpoint and prune; killed, the run is resumed."""
        self.step += 1
        folder = self.written()
        seal(folder, accuracy)
        self.whole[self.step] = accuracy
        if killed_at is None:
            prune(self.directory, self.keep_last, self.keep_best)
            self.pruned()
            return
        patches = KilledAt(killed_at).patches()
        try:
            for patch in patches:
                patch.start()
            prune(self.directory, self.keep_last, self.keep_best)
        except Killed:
            still_there = {checkpoint.step for checkpoint in sealed(self.directory)}
            assert still_there >= self.kept()
            self.whole = {step: value for step, value in self.whole.items() if step in still_there}
        else:
            self.pruned()
        finally:
            for patch in patches:
                patch.stop()
        self.resume()

    @rule()
    def end_while_a_checkpoint_is_written(self) -> None:
        """Leave a checkpoint without its seal, as a run that is killed does, and resume."""
        self.step += 1
        self.written()
        (self.directory / TRACKER).write_text(str(self.step))
        self.resume()

    @precondition(lambda self: self.whole)
    @rule(newest=st.integers(1, 3), kind=st.sampled_from(["cut", "changed", "seal"]))
    def lose(self, newest: int, kind: str) -> None:
        """Break the newest whole checkpoints, and resume."""
        for step in sorted(self.whole)[-newest:]:
            file = self.directory / f"global_step_{step}" / ("model.pt" if kind != "seal" else SEAL)
            file.write_bytes(b"short" if kind != "changed" else b"other bytes")
            del self.whole[step]
        self.resume()

    def written(self) -> Path:
        folder = self.directory / f"global_step_{self.step}"
        folder.mkdir()
        (folder / "model.pt").write_bytes(b"the weights")
        (folder / "data.pt").write_bytes(b"the position")
        return folder

    def kept(self) -> set[int]:
        """Return the steps that no pruning may delete."""
        validated = [(value, step) for step, value in self.whole.items() if value is not None]
        best_steps = [step for _, step in sorted(validated, reverse=True)[: self.keep_best]]
        return {*sorted(self.whole)[-self.keep_last :], *best_steps}

    def pruned(self) -> None:
        """Check that what should stay is there, and nothing else."""
        kept = self.kept()
        self.whole = {step: value for step, value in self.whole.items() if step in kept}
        names = {path.name for path in self.directory.iterdir() if not path.name.count(".broken")}
        assert names - {TRACKER} == {f"global_step_{step}" for step in kept}

    def resume(self) -> None:
        """Check that the newest whole checkpoint is resumed from, and go on there."""
        chosen, _ = choose(self.directory)
        self.step = max(self.whole, default=0)
        assert chosen == (self.directory / f"global_step_{self.step}" if self.step else None)
        tracker = self.directory / TRACKER
        assert (int(tracker.read_text()) if tracker.exists() else 0) == self.step

    @invariant()
    def what_is_sealed_is_whole(self) -> None:
        assert {checkpoint.step: checkpoint.accuracy for checkpoint in sealed(self.directory)} == self.whole

    def teardown(self) -> None:
        self.fsync.stop()
        shutil.rmtree(self.directory)


Run.TestCase.settings = settings(max_examples=100, stateful_step_count=12)
TestRun = Run.TestCase
