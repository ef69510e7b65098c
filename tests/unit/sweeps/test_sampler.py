"""The sampler on a computed machine: what it finds, and what it costs in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from optuna.trial import TrialState

from sweeps.attributes import CAUSE
from sweeps.candidates import distributions, suggest_point
from sweeps.sampler import FeasibleSampler
from sweeps.space import Space
from sweeps.validation.sampler_table import reached, samplers, search, surface_space
from sweeps.validation.surface import Surface, cut

SEEDS = range(4)


@pytest.fixture(scope="module")
def space() -> Space:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return surface_space()


@pytest.mark.slow
def test_twenty_trials_find_the_best_and_seldom_run_out_of_memory(space: Space) -> None:
    found = {
        name: [search(space, samplers(space, 20)[name](seed), Surface(space, seed), 20) for seed in SEEDS]
        for name in ("sweep's own", "random")
    }
    assert reached(found["sweep's own"]) >= 0.9
    assert reached(found["random"]) < reached(found["sweep's own"])
    failures = {name: np.mean([one.out_of_memory for one in searches]) for name, searches in found.items()}
    assert failures["random"] > 1
    assert failures["sweep's own"] <= failures["random"] / 3


def test_a_surface_has_noise_cut_texts_and_memory_that_runs_out(space: Space, tmp_path: Path) -> None:
    some = {axis: [*values[::3], values[-1]] for axis, values in space.axes.items()}
    file = tmp_path / "some.yaml"
    file.write_text(yaml.safe_dump({"axes": some}))
    space = Space.load(file, space.experiment, space.overrides, space.machine)
    surface = Surface(space, 0)
    answers = [surface.exact(point) for point in space.points()]
    assert 0.05 < np.mean([answer.out_of_memory for answer in answers]) < 0.6
    assert 0.1 < np.mean([answer.truncated > 0.05 for answer in answers]) < 0.9
    noise = np.random.default_rng(0)
    asked = [surface.sample(space.reference, noise).rate for _ in range(50)]
    assert np.std(asked) / np.mean(asked) == pytest.approx(0.03, abs=0.015)
    assert surface.best() > 1.1 * surface.exact(space.reference).true_rate


def test_cut_lengths_are_those_of_a_sample() -> None:
    lengths = np.random.default_rng(0).lognormal(np.log(400), 0.5, 200_000)
    share, mean = cut(400, 700)
    assert share == pytest.approx((lengths > 700).mean(), abs=0.005)
    assert mean == pytest.approx(np.minimum(lengths, 700).mean(), rel=0.01)


def told(space: Space, rates: dict[tuple[int, ...], float], too_large: tuple[int, ...] | None = None) -> optuna.Study:
    """Return a study in memory whose trials had these rates, and one that ran out of memory."""
    study = optuna.create_study(direction="maximize", sampler=FeasibleSampler(space, 0))
    ways = distributions(space)
    for values, rate in rates.items():
        point = dict(zip(space.axes, values, strict=True))
        study.add_trial(
            optuna.create_trial(value=rate, params=point, distributions=ways, constraints={"truncated": -0.05})
        )
    if too_large is not None:
        point = dict(zip(space.axes, too_large, strict=True))
        study.add_trial(
            optuna.create_trial(
                state=TrialState.PRUNED, params=point, distributions=ways, user_attrs={CAUSE: "out of memory: cuda:0"}
            )
        )
    return study


RATES: dict[tuple[int, ...], float] = {
    (12, 2, 1536, 8192): 1.0,
    (24, 4, 1536, 8192): 2.0,
    (60, 4, 1536, 16384): 3.0,
    (96, 4, 1536, 16384): 4.0,
}


def test_the_librarys_model_ranks_the_points_that_are_left(space: Space) -> None:
    study = told(space, RATES)
    point = suggest_point(study.ask(), space)
    sampler = study.sampler
    assert isinstance(sampler, FeasibleSampler)
    assert len(sampler._scores) == len(list(space.points())) - len(RATES)
    assert np.ptp(sampler._scores) > 1
    assert point["data.train_batch_size"] >= 60  # the model has seen that more is faster


def test_nothing_that_is_estimated_as_large_as_what_ran_out_of_memory_is_proposed(space: Space) -> None:
    too_large = (120, 8, 3072, 32768)
    study = told(space, RATES, too_large)
    limit = space.memory_share(dict(zip(space.axes, too_large, strict=True)))
    proposed = [suggest_point(study.ask(), space) for _ in range(4)]
    assert limit > 0
    assert all(space.memory_share(point) < limit for point in proposed)
