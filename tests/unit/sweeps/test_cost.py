"""What trials cost: noted however they end, summed over the study, shown."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from guidelines_core.runs.cost import DOLLARS, GPU_HOURS, HOURS
from sweeps import results
from sweeps.attributes import INTERRUPTED
from sweeps.axes import LAYOUT, SPACES
from sweeps.cost import in_words, of_study, of_trial
from sweeps.failures import TrialFailedError
from sweeps.loop import TrialRequest, run
from sweeps.machine import Machine
from sweeps.objective import Measured
from sweeps.space import Space
from sweeps.storage import open_storage
from sweeps.study import Goal, open_study, study_name
from sweeps.summary import summarise
from tests.support.study import HERE

PRICE = "guidelines.cost.gpu_hour=3600"


def on_gpus(*overrides: str) -> Space:
    """A space of two layouts: one of its points takes two GPUs, the other one."""
    layouts = {LAYOUT: ("colocated-1", "1p1")}
    return Space("gsm8k-1.5b", overrides, layouts, Machine(2, HERE.gpu))


def trial(cost: Mapping[str, float]) -> optuna.trial.FrozenTrial:
    return optuna.create_trial(state=TrialState.PRUNED, user_attrs=dict(cost))


def test_a_trial_costs_the_gpus_of_its_layout_however_it_ends(tmp_path: Path) -> None:
    space = on_gpus(PRICE)
    seconds: dict[str, float] = {}

    def measure(request: TrialRequest) -> Measured:
        began = time.time()
        time.sleep(0.2)
        seconds[request.name] = time.time() - began
        if request.point[LAYOUT] == "1p1":
            raise TrialFailedError("out of memory: cuda:0")
        return Measured(1.0, 0.0, {"sweep/rate_median": 1.0})

    study = open_study(space, Goal(), open_storage(f"sqlite:///{tmp_path / 'optuna.db'}"), seed=0)
    run(study, space, Goal(), 2, measure)
    found = {str(each.params[LAYOUT]): each for each in study.get_trials()}
    assert {name: each.state for name, each in found.items()} == {
        "colocated-1": TrialState.COMPLETE,
        "1p1": TrialState.PRUNED,
    }
    for layout, gpus in (("colocated-1", 1), ("1p1", 2)):
        cost, took = of_trial(found[layout]), seconds[f"trial-{found[layout].number:04d}"]
        assert cost[HOURS] * 3600 == pytest.approx(took, abs=0.15)
        assert cost[GPU_HOURS] == pytest.approx(gpus * cost[HOURS])
        assert cost[DOLLARS] == pytest.approx(3600 * cost[GPU_HOURS])


def test_a_trial_that_is_stopped_has_its_cost_and_a_cpu_has_no_gpu_hours(tmp_path: Path) -> None:
    space = Space.load(SPACES / "quick.yaml", "quickstart", (), HERE)

    def stop(request: TrialRequest) -> Measured:
        raise KeyboardInterrupt

    study = open_study(space, Goal(), open_storage(f"sqlite:///{tmp_path / 'optuna.db'}"), seed=0)
    with pytest.raises(KeyboardInterrupt):
        run(study, space, Goal(), 2, stop)
    (stopped,) = (each for each in study.get_trials() if INTERRUPTED in each.user_attrs)
    assert of_trial(stopped).keys() == {HOURS, GPU_HOURS}
    assert of_trial(stopped)[GPU_HOURS] == 0
    assert of_study(study.get_trials())[HOURS] == of_trial(stopped)[HOURS], "one that another replaces counts, too"


def test_a_study_shows_what_it_has_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = Space.load(SPACES / "quick.yaml", "quickstart", (), HERE)
    uri = f"sqlite:///{tmp_path / 'optuna.db'}"
    study = open_study(space, Goal(), open_storage(uri), seed=0)
    study.add_trial(trial({HOURS: 0.5, GPU_HOURS: 2.0, DOLLARS: 5.0}))
    study.add_trial(trial({HOURS: 0.25, GPU_HOURS: 1.0, DOLLARS: 2.5}))
    assert summarise(study, space, Goal())["cost of its trials"] == "3 GPU-hours, $7.50"
    assert results.main([study.study_name, "--storage", uri]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {name: shown[name] for name in (HOURS, GPU_HOURS, DOLLARS)} == {HOURS: 0.75, GPU_HOURS: 3.0, DOLLARS: 7.5}
    assert [each.get(DOLLARS) for each in shown["trials"]] == [None, 5.0, 2.5]


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 8), st.booleans()), max_size=6))
def test_a_sum_is_of_all_trials_and_dollars_only_where_all_have_a_price(
    trials: list[tuple[float, int, bool]],
) -> None:
    costs = [
        {HOURS: hours, GPU_HOURS: hours * gpus} | ({DOLLARS: 2 * hours * gpus} if priced else {})
        for hours, gpus, priced in trials
    ]
    total = of_study([trial({}), *(trial(cost) for cost in costs)])
    if not costs:
        assert total == {}
        assert in_words(total) == ""
        return
    assert total[GPU_HOURS] == pytest.approx(sum(cost[GPU_HOURS] for cost in costs))
    assert (DOLLARS in total) == all(priced for *_, priced in trials)
    assert ("$" in in_words(total)) == (DOLLARS in total and total[GPU_HOURS] > 0)


def test_a_price_makes_no_other_study() -> None:
    assert study_name(on_gpus(PRICE), Goal()) == study_name(on_gpus(), Goal())
    assert study_name(on_gpus("data.seed=1"), Goal()) != study_name(on_gpus(), Goal())


def test_what_a_study_measured_before_has_no_cost(tmp_path: Path) -> None:
    space = Space.load(SPACES / "quick.yaml", "quickstart", (), HERE)
    study = open_study(space, Goal(), open_storage(f"sqlite:///{tmp_path / 'optuna.db'}"), seed=0)
    study.add_trial(trial({}))
    assert "cost of its trials" not in summarise(study, space, Goal())
