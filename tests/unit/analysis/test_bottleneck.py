from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from omegaconf import DictConfig, OmegaConf

from analysis.diagnosis import report as diagnosis_report
from analysis.diagnosis.changes import best, predicted
from analysis.diagnosis.command import main
from analysis.diagnosis.findings import Diagnosis, as_json, of_figures, of_run
from analysis.diagnosis.model import Model
from analysis.diagnosis.step_time import (
    Step,
    in_flight,
    in_waves,
    lanes,
    median_step,
    overlap,
    phase_seconds,
    slowest,
    solver_calls,
    spans,
)
from guidelines_core.config.compose import changed, compose
from guidelines_core.hardware.shapes import KNOWN, gpus
from guidelines_core.hardware.timing import Lengths, shapes_of
from guidelines_core.paths import ROOT
from guidelines_core.runs.lookup import RunError

FIGURES = ROOT / "analysis/reference-figures.yaml"
SECONDS = {"gen": 10.0, "old_log_prob": 2.0, "ref": 3.0, "update_actor": 4.0, "update_weights": 0.5, "other": 0.5}


@pytest.fixture(scope="module")
def reference() -> DictConfig:
    return compose("numinamath30k-3b-300steps-mathverify", environ={})


def rows(**columns: object) -> pd.DataFrame:
    """Graded rows in which what is not said is nothing or missing."""
    plain = {"grader_s": 0.0, "asked_at": np.nan, "solution_truncated": 0.0, "solution_tokens": 100}
    table: pd.DataFrame = pd.DataFrame({**plain, **columns})
    return table


def calls(*asked_answered: tuple[float, float]) -> pd.DataFrame:
    asked, answered = zip(*asked_answered, strict=True)
    columns = {"asked": asked, "answered": answered, "graded": answered, "tokens": 9, "truncated": 0.0}
    table: pd.DataFrame = pd.DataFrame(columns)
    return table


def elsewhere(name: str, layout: str) -> DictConfig:
    """Return an experiment's configuration with its solver elsewhere."""
    overrides = [f"layout={layout}", "guidelines.solver.url=http://host:8000/v1", "guidelines.solver.model=its"]
    return compose(name, overrides, environ={})


def step(seconds: Mapping[str, float] = SECONDS, made: pd.DataFrame | None = None) -> Step:
    return Step(2, sum(seconds.values()), dict(seconds), Lengths(165, 600, 600), calls=made)


# -- a step's time


def test_the_median_step_leaves_the_first_out_and_is_a_step_that_was_taken() -> None:
    taken = {1: 90.0, 2: 10.0, 3: 30.0, 4: 20.0, 5: 40.0}
    assert median_step(pd.DataFrame({"timing_s/step": taken})) == 4  # 10, 20, 30, 40: the shorter of the middle two
    assert median_step(pd.DataFrame({"timing_s/step": {7: 3.0}})) == 7


def test_what_no_phase_accounts_for_is_other_and_what_was_not_logged_is_left_out() -> None:
    metrics = {"timing_s/step": 20.0, "timing_s/gen": 12.0, "timing_s/ref": 5.0, "timing_s/values": float("nan")}
    assert phase_seconds(metrics) == {"gen": 12.0, "ref": 5.0, "other": 3.0}


def test_calls_are_derived_from_lengths_and_latencies() -> None:
    graded = rows(guideline_tokens=[10, 20], solver_s=[5.0, 4.0])
    # Guidelines grow at 0.3 s a token: at 0.5, which the first would allow, the second's call ended after the phase.
    found, recorded = solver_calls(graded, {"gen": 10.0}, in_turns=False)
    assert not recorded
    np.testing.assert_allclose(found[["asked", "answered"]], [[3.0, 8.0], [6.0, 10.0]])


def test_recorded_calls_end_with_the_phase() -> None:
    graded = rows(
        guideline_tokens=[10, 20],
        solver_s=[5.0, 4.0],
        grader_s=[0.0, 1.0],
        asked_at=["2026-01-01T00:00:02+00:00", "2026-01-01T00:00:04.5+00:00"],
    )
    found, recorded = solver_calls(graded, {"gen": 10.0}, in_turns=False)
    assert recorded
    np.testing.assert_allclose(found[["asked", "answered", "graded"]], [[2.5, 7.5, 7.5], [5.0, 9.0, 10.0]])


def test_a_solver_in_turns_begins_after_the_guidelines() -> None:
    graded = rows(guideline_tokens=[10, 20], solver_s=[5.0, 4.0])
    found, _ = solver_calls(graded, {"gen": 10.0, "reward": 6.0}, in_turns=True)
    np.testing.assert_allclose(found[["asked", "answered"]], [[10.0, 14.0], [10.0, 15.0]])


def test_calls_under_way_and_their_stretches() -> None:
    made = calls((0, 4), (1, 2), (4, 5), (7, 8))
    moments, number = in_flight(made)
    assert dict(zip(moments.tolist(), number.tolist(), strict=True)) == {0: 1, 1: 2, 2: 1, 4: 1, 5: 0, 7: 1, 8: 0}
    assert spans(made) == [(0, 5), (7, 8)]
    assert in_flight(calls((0, 4), (4, 5)))[1].max() == 1, "one after the other is never two at once"


def test_one_call_after_the_other_takes_its_share_of_the_time(reference: DictConfig) -> None:
    one = changed(reference, {"guidelines.solver.max_concurrency": 1})
    made = in_waves(one, 30.0, 240.0)
    assert made["answered"].tolist() == [32.0 + 2 * call for call in range(120)]
    assert in_waves(reference, 30.0, 240.0)["answered"].tolist() == [270.0] * 120


def test_who_was_busy_when(reference: DictConfig) -> None:
    made = step(made=calls((2, 6), (4, 10)))
    training, solver = lanes(reference, made)
    assert (training.gpus, solver.gpus) == (3, 1)
    assert training.bars[:2] == [(0.0, 4.0, "gen"), (10.0, 12.0, "old_log_prob")]
    assert solver.bars == [(2, 10, "solver")]
    assert (training.busy, solver.busy) == (13.5, 8)
    assert solver.idle(made.total) == pytest.approx(0.6)
    assert overlap(reference, made) == 2  # the solver begins at 2, the last guideline is written at 4


def test_who_was_busy_in_other_layouts() -> None:
    name = "numinamath30k-3b-300steps"
    shared = compose(name, ["layout=colocated-1"], environ={})
    (only,) = lanes(shared, step({"gen": 5.0, "reward": 5.0, **{k: s for k, s in SECONDS.items() if k != "gen"}}))
    assert [bar[2] for bar in only.bars] == ["gen", "reward", "old_log_prob", "ref", "update_actor", "update_weights"]
    assert only.idle(20.0) == pytest.approx(0.5 / 20)
    split = compose(name, ["layout=split-1p2p1"], environ={})
    rollout, training, _ = lanes(split, step())
    assert rollout.bars == [(0.0, 20.0, "gen")]
    assert training.busy == 9.5  # it waits while it has no rollouts


def test_a_solver_elsewhere_has_no_lane_and_its_calls_still_overlap() -> None:
    config = elsewhere("numinamath30k-3b-300steps", "train-only-4")
    made = step(made=calls((2, 6), (4, 10)))
    (only,) = lanes(config, made)
    assert only.bars[:2] == [(0.0, 4.0, "gen"), (10.0, 12.0, "old_log_prob")]
    assert overlap(config, made) == 2


def test_of_a_solver_elsewhere_nothing_is_estimated() -> None:
    config = elsewhere("numinamath30k-3b-300steps-mathverify", "train-only-4")
    model = Model(*shapes_of(config), gpus()["H100"], Lengths(165, 600, 600))
    assert model.solver is None
    assert model.generation(config)[1] == 0
    assert set(model.floor(config)) <= {*SECONDS, "ref"}
    one = changed(config, {"guidelines.solver.max_concurrency": 1})
    assert predicted(config, step(), model, one) == pytest.approx(20.0)
    found = best(config, step(), model, None, {})
    assert found
    assert "reward_model" not in str(found)
    assert "split-1p2p1" not in str(found)


def test_the_slowest_calls_and_what_they_hold_up() -> None:
    graded = rows(solver_s=[*np.linspace(1, 2, 149), 9.0], solution_tokens=[100] * 149 + [800])
    by_step = {1: calls((0, 3), (0, 5)), 2: calls((0, 4), (1, 10))}
    found = slowest(graded, by_step)
    assert (len(found.calls), found.of, found.threshold) == (2, 150, 2.0)
    found = slowest(graded.drop(index=148).iloc[50:], by_step)
    assert (len(found.calls), found.of, found.threshold, found.enough) == (1, 99, 9.0, 100)
    assert found.held == pytest.approx((0 + 6) / 2)  # step 2's last call takes 9 s and ends 6 s after the other


# -- what to change


def test_on_the_references_figures_the_sequential_solver_comes_first() -> None:
    found = of_figures(FIGURES)
    assert found.step.total / 3600 * 4 == 3
    assert found.changes[0].overrides == ("guidelines.solver.max_concurrency=512",)
    assert 0.8 * 2700 < found.changes[0].saves < 2700
    training, solver = found.lanes
    assert training.idle(2700) > 0.8
    assert solver.idle(2700) < 0.2
    assert "Nothing overlaps" in " ".join(diagnosis_report.findings(found))


def test_more_reward_workers_have_no_more_requests_in_flight() -> None:
    """480 prompts and 32 workers: 512 requests are in flight, and the solver writes in four waves."""
    overrides = ["layout=hybrid-4-shared", "reward.num_workers=32", "data.train_batch_size=480"]
    config = compose("numinamath30k-3b-300steps-mathverify-fast", overrides, environ={})
    count = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    waves = in_waves(config, 1.0, 4.0)
    assert (count, waves["answered"].nunique()) == (1920, 4)
    assert waves["answered"].value_counts().max() == 512
    model = Model(*shapes_of(config), gpus()["H100"], Lengths(165, 600, 600))
    found = best(config, step({**SECONDS, "reward": 20.0}), model, None, {})
    (change,) = (change for change in found if "max_concurrency" in change.overrides[0])
    assert change.overrides == ("guidelines.solver.max_concurrency=1920",)
    assert "1920 solver calls go 512 at a time" in change.why


def test_the_requests_to_try_are_enough_once_the_workers_share_them(reference: DictConfig) -> None:
    config = changed(reference, {"guidelines.solver.max_concurrency": 100, "reward.num_workers": 7})
    model = Model(*shapes_of(config), gpus()["H100"], Lengths(165, 600, 600))
    found = best(config, step(), model, None, {})
    assert ("guidelines.solver.max_concurrency=518",) in [change.overrides for change in found]
    asked = changed(config, {"guidelines.solver.max_concurrency": 119})
    assert model.floor(asked) == model.floor(changed(config, {"reward.num_workers": 1}))


def test_a_measured_step_is_divided_up_as_it_was_measured() -> None:
    found = of_figures(KNOWN / "measured-step.yaml")
    assert (found.name, found.hardware, found.step.estimated) == ("numinamath30k-3b-300steps", "H200", False)
    assert found.step.seconds["update_actor"] == 23.7
    assert found.step.seconds["other"] == pytest.approx(56.3 - 8.1 - 7.3 - 16.4 - 23.7 - 0.44)
    assert found.longest == "update_actor"
    assert set(found.floor) <= set(found.step.seconds)
    assert all(found.floor[name] < seconds for name, seconds in found.step.seconds.items() if name in found.floor)


def measured(config: DictConfig) -> Diagnosis:
    found = of_figures(FIGURES)
    model = Model(*shapes_of(config), gpus()["H200"], Lengths(165, 600, 600))
    changes = best(config, step(), model, None, {"testing": 4.0, "save_checkpoint": 0.0})
    return Diagnosis(**{**vars(found), "config": config, "step": step(), "changes": changes})


def test_changes_of_a_measured_step_are_scaled_by_the_estimate(reference: DictConfig) -> None:
    model = Model(*shapes_of(reference), gpus()["H200"], Lengths(165, 600, 600))
    assert predicted(reference, step(), model, reference) == pytest.approx(20.0)
    half = changed(reference, {"actor_rollout_ref.rollout.n": 2, "actor_rollout_ref.actor.ppo_mini_batch_size": 30})
    before, after = model.phases(reference), model.phases(half)
    expected = sum(s * after.get(name, 0) / before[name] if name in before else s for name, s in SECONDS.items())
    assert predicted(reference, step(), model, half) == pytest.approx(expected)


def test_every_change_names_a_key_that_composes_and_what_it_gains(reference: DictConfig) -> None:
    found = {change.overrides: change for change in measured(reference).changes}
    assert found[("guidelines.old_log_probs.agreement=0.01",)].saves == pytest.approx(1.8)
    assert found[("trainer.test_freq=100",)].saves == 2.0
    mini = found[("actor_rollout_ref.actor.ppo_mini_batch_size=30",)]
    assert "120 rollouts are padded to 192: 38%" in mini.why
    assert "1 optimizer step for each batch instead of 2" in mini.caveat
    assert "guidelines.solver.max_concurrency=512" not in str(found)
    for overrides in found:
        compose("numinamath30k-3b-300steps-mathverify", overrides, environ={})


def test_a_mended_cause_is_named_no_more(reference: DictConfig) -> None:
    mended = changed(
        reference,
        {
            "actor_rollout_ref.actor.ppo_mini_batch_size": 30,
            "guidelines.old_log_probs.agreement": 0.01,
            "actor_rollout_ref.ref.fsdp_config.param_offload": False,
            "trainer.test_freq": -1,
        },
    )
    named = " ".join(" ".join(change.overrides) for change in measured(mended).changes)
    for key in (
        "ppo_mini_batch_size=30 ",
        "agreement",
        "param_offload",
        "test_freq",
        "max_concurrency",
        "max_num_seqs",
    ):
        assert key not in named


def test_engines_that_write_too_few_at_once_are_named(reference: DictConfig) -> None:
    narrow = changed(reference, {"reward.reward_model.rollout.max_num_seqs": 8})
    assert ("reward.reward_model.rollout.max_num_seqs=120",) in [
        change.overrides for change in measured(narrow).changes
    ]


def test_a_reference_that_does_not_fit_is_not_taken_off_main_memory(reference: DictConfig) -> None:
    key = "actor_rollout_ref.ref.fsdp_config.param_offload=False"
    assert key in str(measured(reference).changes)
    small = replace(gpus()["H200"], memory=40.0)
    model = Model(*shapes_of(reference), small, Lengths(165, 600, 600))
    assert key not in str(best(reference, step(), model, None, {}))


# -- recorded runs


def recorded(folder: Path, metrics: Mapping[int, Mapping[str, float]], config: DictConfig | None, status: str) -> str:
    """Record a run as `experiments/run.py` does and return its id."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("e")
    known = experiment.experiment_id if experiment else client.create_experiment("e", (folder / "mlruns").as_uri())
    run_id = str(client.create_run(known, run_name="tried", tags={"hardware.cpu": "2 x Some CPU"}).info.run_id)
    for number, values in metrics.items():
        for name, value in values.items():
            client.log_metric(run_id, name, value, step=number)
    if config is not None:
        client.log_text(run_id, OmegaConf.to_yaml(config), "config.yaml")
        for number in metrics:
            file = folder / f"train_{number:06d}.parquet"
            graded = rows(
                step=number, guideline_tokens=[8, 10], solver_s=[1.0, 2.0], question="How many?", problem_id="a"
            )
            graded.drop(columns="asked_at").to_parquet(file)
            client.log_artifact(run_id, str(file), "rows")
    client.set_terminated(run_id, status)
    return run_id


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return tmp_path


def timed(total: float) -> dict[str, float]:
    return {"timing_s/step": total, "timing_s/gen": 4.0, "timing_s/update_actor": total - 5, "timing_s/testing": 2.0}


def test_a_recorded_run_is_read_back(store: Path) -> None:
    config = compose("quickstart", environ={})
    steps = {1: timed(60.0), 2: timed(10.0), 3: timed(20.0), 4: timed(30.0)}
    run_id = recorded(store, steps, config, "FINISHED")
    found = of_run("tried")
    assert (found.source, found.step.number, found.step.total) == (f"run {run_id}, FINISHED", 3, 20.0)
    assert found.step.seconds == {"gen": 4.0, "update_actor": 15.0, "other": 1.0}
    assert found.hardware == "2 CPU cores"
    assert found.step.lengths == Lengths(config.data.max_prompt_length, 32, 48, 10, 100)
    assert found.whole["steps"] == 120.0
    assert found.slow is not None
    assert found.slow.of == 8
    assert {"guideline/tokens was not recorded: every guideline is taken to be 32 tokens, its limit."} < set(
        found.notes
    )
    answer = as_json(found)
    json.dumps(answer)
    assert answer["phases"]["gen"]["share"] == 0.2
    assert answer["padding"] == {"rollouts": 16, "padded": 16, "share": 0.0}


def test_a_model_that_is_not_known_leaves_the_rest(store: Path) -> None:
    values = {"actor_rollout_ref.model.path": "/gone", "trainer.test_freq": 1}
    config = changed(elsewhere("quickstart", "cpu-train-only"), values)
    recorded(store, {1: timed(60.0), 2: timed(10.0)}, config, "FINISHED")
    found = of_run("tried")
    assert found.floor == {}
    assert any("actor_rollout_ref.model.path=/gone" in note for note in found.notes)
    assert any("The solver runs elsewhere" in note and "Step 2 waited 2.0 s for it" in note for note in found.notes)
    (change,) = found.changes
    # Of five steps, each with a validation, the second, the fourth and the last keep theirs.
    assert (change.overrides, change.caveat) == (("trainer.test_freq=2",), "2 of 5 validations")
    assert change.saves == pytest.approx(2.0 * 2 / 5)


def test_the_only_validation_is_not_to_be_left_out(store: Path) -> None:
    recorded(store, {1: timed(60.0), 2: timed(10.0)}, compose("quickstart", environ={}), "FINISHED")
    assert "test_freq" not in str(of_run("tried").changes)


def test_the_time_between_two_attempts_is_not_the_runs(store: Path) -> None:
    steps = {step: {**timed(10.0), "cost/hours": step * 0.01} for step in (1, 2)}
    run_id = recorded(store, steps, compose("quickstart", environ={}), "FINISHED")
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    client.set_terminated(run_id, "FINISHED", end_time=client.get_run(run_id).info.start_time + 10 * 3_600_000)
    # 72 s without the steps and their validations.
    assert of_run("tried").whole["start and the rest"] == pytest.approx(72.0 - 20.0 - 4.0)


@pytest.mark.parametrize(
    ("metrics", "with_config", "expected"),
    [
        ({}, True, "recorded no step"),
        ({1: {"timing_s/gen": 1.0}}, True, "recorded no step"),
        ({}, False, "config.yaml"),
    ],
)
def test_runs_with_nothing_to_divide_up_are_refused(
    store: Path,
    metrics: dict[int, dict[str, float]],
    with_config: bool,
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = compose("quickstart", environ={}) if with_config else None
    run_id = recorded(store, metrics, config, "FAILED")
    assert main([run_id]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert "FAILED" in said
    with pytest.raises(RunError):
        of_run("tried")  # none of this name is FINISHED


# -- the command


def test_the_page_and_the_json_say_what_the_terminal_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    html = tmp_path / "page.html"
    assert main(["--figures", str(FIGURES), "--json", "--html", str(html)]) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert answer["changes"][0]["overrides"] == ["guidelines.solver.max_concurrency=512"]
    assert answer["steps_in_3_hours"] == 4.0
    saved = f"saves {answer['changes'][0]['saves']:,.1f} s a step"
    assert saved in printed.err
    page = html.read_text()
    assert saved.capitalize() in page
    assert page.count("<svg") == 2
    assert not re.search(r"""(?:src|href)="(?!#)|url\((?!#)""", page), "the page needs nothing from outside"


@pytest.mark.parametrize("text", ["", "[1]", "name: x", "name: [", "{name: x, step: fast, lengths: {}, gpu: H100}"])
def test_figures_that_cannot_be_read_are_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.yaml"
    file.write_text(text)
    assert main(["--figures", str(file)]) == 2
    assert "expected a YAML with experiment, gpu" in capsys.readouterr().err


def test_the_script_runs_and_pandas_does_not_take_it_for_its_own_package() -> None:
    code = (
        "import runpy, sys, pandas\n"
        "assert not any(name.startswith('mlflow') for name in sys.modules), 'half of it is loaded'\n"
        "runpy.run_path('bottleneck.py', run_name='__main__')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, "--figures", str(FIGURES)],
        cwd=ROOT / "analysis",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "1. guidelines.solver.max_concurrency=512" in ran.stdout
