"""Which other layout of as many GPUs is better for a run."""

from __future__ import annotations

import pandas as pd
import pytest
from omegaconf import DictConfig

from analysis.diagnosis.changes import Change, best, predicted
from analysis.diagnosis.model import Model
from analysis.diagnosis.step_time import Step
from guidelines_core.config.compose import compose
from guidelines_core.hardware.shapes import gpus
from guidelines_core.hardware.timing import MEASURED, Lengths, shapes_of

NAME = "numinamath30k-3b-300steps-mathverify-fast"
MINI = "actor_rollout_ref.actor.ppo_mini_batch_size"
SECONDS = {"gen": 8.0, "ref": 2.0, "update_actor": 6.0, "update_weights": 0.5, "other": 0.5}
EVEN = Lengths(165, 600, 600)


def run(layout: str) -> DictConfig:
    return compose(NAME, [f"layout={layout}"], environ={})


def model(config: DictConfig, lengths: Lengths = EVEN) -> Model:
    return Model(*shapes_of(config), gpus()["H200"], lengths)


def step(seconds: dict[str, float], calls: pd.DataFrame | None = None) -> Step:
    return Step(2, sum(seconds.values()), seconds, EVEN, calls=calls)


def written_from(asked: float, last: float, answered: float) -> pd.DataFrame:
    """Return the calls of a step whose first guideline is written at `asked` and whose last one at `last`, in s."""
    found: pd.DataFrame = pd.DataFrame({"asked": [asked, last], "answered": [last, answered], "graded": answered})
    return found


def changes(layout: str, seconds: dict[str, float], calls: pd.DataFrame | None = None, lengths: Lengths = EVEN
            ) -> dict[str, Change]:  # fmt: skip
    config = run(layout)
    found = best(config, step(seconds, calls), model(config, lengths), None, {})
    return {change.overrides[0]: change for change in found if change.overrides[0].startswith("layout=")}


@pytest.mark.parametrize(
    ("own", "shared", "split"),
    [("1p1", "hybrid-2-shared", "split-1p1-shared"), ("hybrid-3p1", "hybrid-4-shared", "split-1p2p1")],
)
def test_a_run_with_its_solver_apart_may_share_its_gpus_or_train_beside_its_rollouts(
    own: str, shared: str, split: str
) -> None:
    found = changes(own, SECONDS)
    assert set(found) == {f"layout={shared}", f"layout={split}"}
    for change in found.values():
        assert compose(NAME, change.overrides, environ={}).trainer.device == "cuda"


def test_a_shared_solver_gains_what_all_gpus_gain_and_loses_what_overlapped() -> None:
    config, shared = run("hybrid-3p1"), run("hybrid-4-shared")
    (wrote, solved), (writes, solves) = (model(config).generation(each) for each in (config, shared))
    before, after = (model(config).phases(each) for each in (config, shared))
    rest = sum(s * after[name] / before[name] for name, s in SECONDS.items() if name in ("ref", "update_actor"))
    rest += SECONDS["update_weights"] + SECONDS["other"]
    for calls, overlapped in ((None, 0.0), (written_from(1.0, 5.0, 8.0), 4.0)):
        generating = (8.0 + overlapped) * (writes + solves) / (wrote + solved) + MEASURED.switch
        assert predicted(config, step(SECONDS, calls), model(config), shared) == pytest.approx(rest + generating)


def test_a_solver_that_writes_all_the_while_keeps_its_gpu() -> None:
    short = {**SECONDS, "ref": 0.2, "update_actor": 0.6}
    apart = changes("hybrid-3p1", short, written_from(0.5, 7.5, 8.0))
    assert "layout=hybrid-4-shared" not in apart
    assert "layout=hybrid-4-shared" in changes("hybrid-3p1", short)


def test_a_shared_solver_gets_a_gpu_where_its_solutions_are_long_and_training_is_short() -> None:
    long = {"gen": 5.0, "reward": 13.0, "ref": 0.1, "update_actor": 0.3, "update_weights": 0.3, "other": 0.3}
    assert "layout=1p1" in changes("hybrid-2-shared", long, lengths=Lengths(165, 300, 1500))
    training = {**long, "gen": 1.0, "reward": 3.0, "ref": 4.0, "update_actor": 20.0}
    assert "layout=1p1" not in changes("hybrid-2-shared", training, lengths=Lengths(165, 300, 1500))


@pytest.mark.parametrize(("tail", "saves"), [(3.0, 2.0), (1.5, 1.5)])
def test_the_reference_policy_saves_what_it_waits_at_most_what_it_takes(tail: float, saves: float) -> None:
    config = run("1p1")
    calls = written_from(1.0, 8.0 - tail, 8.0)
    found = best(config, step(SECONDS, calls), model(config), None, {})
    (change,) = [each for each in found if "guidelines.reference_beside_solver=True" in each.overrides]
    assert change.saves == pytest.approx(saves)
    for other in (["guidelines.reference_beside_solver=True"], [f"{MINI}=20"]):
        config = compose(NAME, ["layout=1p1", *other], environ={})
        named = str(best(config, step(SECONDS, calls), model(config), None, {}))
        assert "reference_beside_solver" not in named
