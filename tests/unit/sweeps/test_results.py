"""A study read back: as JSON, and with trials from unlike machines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import optuna
import pytest

from guidelines_core.hardware.shapes import gpus
from sweeps import results
from sweeps.attributes import CAUSE, MACHINE, RATE, REFERENCE, TRUNCATED
from sweeps.axes import BATCH
from sweeps.candidates import distributions
from sweeps.machine import Machine
from sweeps.space import Space
from sweeps.storage import open_storage
from sweeps.study import Goal, best, comparable, open_study, reference
from sweeps.summary import summarise, without_result

OLD, NEW = "1 x H100, driver 570.1", "1 x H100, driver 580.2"
FIGURES = {"sweep/rate_median": 1.0, "sweep/rate_spread": 0.1, "sweep/s_per_step": 2.0, "sweep/tokens_per_s": 10.0,
           "sweep/groups_with_advantage": 0.5, "sweep/accuracy": 0.5}  # fmt: skip


@pytest.fixture(scope="module")
def space() -> Space:
    return Space("tiny", (), {BATCH: (2, 4, 8, 16)}, Machine(0, gpus()["H100"]))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'optuna.db'}"


@pytest.fixture
def study(space: Space, url: str) -> optuna.Study:
    return open_study(space, Goal(), open_storage(url))


def add(study: optuna.Study, space: Space, batch: int, rate: float, machine: str, **attributes: object) -> None:
    measured = {RATE: rate, TRUNCATED: 0.0, MACHINE: machine, **FIGURES, **attributes}
    study.add_trial(
        optuna.create_trial(
            value=rate, params={BATCH: batch}, distributions=distributions(space), user_attrs=measured,
            constraints={"truncated": -0.05},
        )
    )  # fmt: skip


def test_trials_of_unlike_machines_are_not_ranked_together(study: optuna.Study, space: Space) -> None:
    add(study, space, 2, 1.0, OLD, **{REFERENCE: True})
    add(study, space, 4, 9.0, OLD)
    found = best(study)
    assert found is not None
    assert found.params == {BATCH: 4}
    assert comparable(study) is study
    for batch, rate in ((2, 3.0), (8, 5.0), (16, 4.0)):
        add(study, space, batch, rate, NEW)
    found = best(study)
    assert found is not None
    assert found.params == {BATCH: 8}
    assert reference(study) is None
    said = summarise(study, space, Goal())
    assert said["machines"] == (
        f"rates are comparable only within each machine: 3 on {NEW}; 2 on {OLD}. All below is of the first one"
    )
    assert "gain" not in said
    assert "8" in said["best"]


def test_a_study_is_written_as_json(study: optuna.Study, space: Space, url: str, tmp_path: Path) -> None:
    add(study, space, 2, 1.0, NEW, **{REFERENCE: True})
    add(study, space, 4, 2.0, NEW, **{"sweep/graded_rollouts_per_s": 2.00000049})
    file = tmp_path / "sweep.json"
    assert results.main([study.study_name, "--storage", url, "--json", str(file)]) == 0
    written = json.loads(file.read_text())
    assert written["study"] == study.study_name
    assert written["command"].endswith(sys.argv[-1])
    assert written["machines"] == {NEW: 2}
    assert written["best"] == 2
    last = written["trials"][-1]
    assert last["point"] == {BATCH: 4}
    assert last["machine"] == NEW
    assert last["sweep/graded_rollouts_per_s"] == 2.0
    assert [trial["reference"] for trial in written["trials"]] == [True, True, False]


def test_a_study_that_is_not_there_is_refused_with_those_that_are(
    study: optuna.Study, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results.main(["no-such", "--storage", url]) == 2
    assert f"study no-such: there is none of this name; there are: {study.study_name}" in capsys.readouterr().err


def test_a_study_without_a_result_says_why(study: optuna.Study, space: Space) -> None:
    study.add_trial(
        optuna.create_trial(
            state=optuna.trial.TrialState.PRUNED, user_attrs={CAUSE: "out of memory: cuda:0", MACHINE: NEW}
        )
    )
    said = without_result(study, Goal())
    assert said.startswith("no trial has a result (")
    assert said.endswith("the last failure: out of memory: cuda:0")
    add(study, space, 2, 1.0, NEW, **{TRUNCATED: 0.5})
    assert without_result(study, Goal()).startswith("no trial truncated 5% or less (")
