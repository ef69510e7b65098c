"""The sampler on a computed machine: what it finds, what it costs in memory, and how it believes an estimate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml

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
    asked = [surface.ask(space.reference, noise).rate for _ in range(50)]
    assert np.std(asked) / np.mean(asked) == pytest.approx(0.03, abs=0.015)
    assert surface.best() > 1.1 * surface.exact(space.reference).true_rate


def test_cut_lengths_are_those_of_a_sample() -> None:
    lengths = np.random.default_rng(0).lognormal(np.log(400), 0.5, 200_000)
    share, mean = cut(400, 700)
    assert share == pytest.approx((lengths > 700).mean(), abs=0.005)
    assert mean == pytest.approx(np.minimum(lengths, 700).mean(), rel=0.01)
