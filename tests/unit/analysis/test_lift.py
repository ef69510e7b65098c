from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from mlflow import MlflowClient
from omegaconf import DictConfig, OmegaConf
from scipy import stats

from analysis import lift as entry
from analysis.lifts import page as lift_page
from analysis.lifts.answers import Plan, engine_of, planner_sampling, solver_sampling
from analysis.lifts.arms import NONE, TRAINED, UNTRAINED
from analysis.lifts.data import Problems, load, trained_on
from analysis.lifts.report import Result, notes, same_for_several, show, verdict
from analysis.lifts.stats import Lift, arm, examples, lift, pass_at
from guidelines_core.config.compose import compose
from guidelines_core.data import dataset
from guidelines_core.data.problems import DatasetError, Problem
from guidelines_core.models.export import ExportError
from guidelines_core.runs.checkpoints import seal
from guidelines_core.terminal import plain_console

NAN = float("nan")


@pytest.fixture(scope="module")
def quickstart() -> DictConfig:
    return compose("quickstart", environ={})


def rows(kind: str, verdicts: Sequence[Sequence[float]], leaks: Sequence[int] = (), solver: str = "S") -> pd.DataFrame:
    """Graded rows of one arm: `verdicts` by problem and sample; problems in `leaks` have a leaking guideline."""
    table: pd.DataFrame = pd.DataFrame(
        [
            {
                "problem_id": f"p{problem}",
                "sample": sample,
                "question": f"question {problem}",
                "gold": "7",
                "guideline": "" if kind == NONE else f"{kind} {problem}",
                "guideline_tokens": 0 if kind == NONE else 10,
                "solution": f"{kind} solution {problem}",
                "solution_tokens": 100,
                "solution_cut": sample == 1,
                "correct": correct,
                "reason": "timeout" if correct != correct else "correct" if correct else "wrong",
                "leak": problem in leaks,
                "kind": kind,
                "solver": solver,
            }
            for problem, of_problem in enumerate(verdicts)
            for sample, correct in enumerate(of_problem)
        ]
    )
    return table


def each(*verdicts: float) -> list[list[float]]:
    return [[verdict] for verdict in verdicts]


# -- statistics


@pytest.mark.parametrize(("samples", "right"), [(4, 0), (4, 1), (5, 2), (6, 6)])
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(samples: int, right: int) -> None:
    verdicts = [index < right for index in range(samples)]
    for k in range(1, samples + 1):
        draws = [any(draw) for draw in itertools.combinations(verdicts, k)]
        assert pass_at(k, samples, right) == pytest.approx(sum(draws) / len(draws))


def test_an_arm_by_hand() -> None:
    found = arm("S", TRAINED, rows(TRAINED, [[1, 0], [0, 0], [1, 1], [1, 0]], leaks=[2]))
    assert found.accuracy.value == pytest.approx((0.5 + 0 + 1 + 0.5) / 4)
    assert found.pass_at == {1: pytest.approx(0.5), 2: pytest.approx(0.75)}
    assert (found.leaks, found.repeated) == (0.25, 0)
    assert found.without_leaks.value == pytest.approx(1 / 3)
    assert (found.guideline_tokens, found.solution_tokens, found.solution_cut) == (10, 100, 0.5)


def test_a_paired_difference_by_hand_and_by_scipy() -> None:
    base = [0.0] * 5 + [1.0] + [0.0] * 4 + [1.0] * 10
    better = [1.0] * 5 + [0.0] + [0.0] * 4 + [1.0] * 10
    found = lift(pd.concat([rows(NONE, each(*base)), rows(TRAINED, each(*better), leaks=[0, 1, 19])]))
    (pair,) = found.pairs
    assert (pair.base, pair.better) == (NONE, TRAINED)
    assert pair.paired.difference.value == pytest.approx(0.2)
    assert (pair.helped, pair.harmed) == (["p4", "p3", "p2", "p1", "p0"], ["p5"])
    # Of 6 discordant problems at most one on the other side: 2 (1 + 6) / 2^6.
    assert pair.paired.p_value == pytest.approx(14 / 64)
    assert pair.without_leaks.difference.value == pytest.approx((3 - 1) / 17)
    change = np.array(better) - np.array(base)
    scipys = stats.bootstrap((change,), np.mean, method="percentile", n_resamples=10_000, rng=0).confidence_interval
    assert (pair.paired.difference.low, pair.paired.difference.high) == pytest.approx(tuple(scipys), abs=0.051)


def test_the_pairing_does_not_depend_on_the_rows_order() -> None:
    table = pd.concat([rows(NONE, each(0, 1, 1)), rows(UNTRAINED, each(1, 1, 0)), rows(TRAINED, each(1, 1, 1))])
    shuffled = table.sample(frac=1, random_state=3)
    assert shuffled["problem_id"].tolist() != table["problem_id"].tolist()
    assert lift(shuffled) == lift(table)
    assert [(pair.helped, pair.harmed) for pair in lift(table).pairs] == [(["p0"], ["p2"]), (["p0"], []), (["p2"], [])]
    assert [(pair.base, pair.better) for pair in lift(table).pairs] == [
        (NONE, UNTRAINED), (NONE, TRAINED), (UNTRAINED, TRAINED),
    ]  # fmt: skip


def test_a_problem_without_verdict_in_one_arm_counts_in_none() -> None:
    found = lift(pd.concat([rows(NONE, each(1, NAN, 0)), rows(TRAINED, each(1, 1, 1))]))
    assert (found.problems, found.left_out) == (2, {"timeout": 1})
    assert [one.accuracy.n for one in found.arms] == [2, 2]


def test_nothing_but_missing_verdicts_is_no_result_and_no_error(quickstart: DictConfig) -> None:
    table = pd.concat([rows(NONE, each(NAN)), rows(TRAINED, each(1))])
    found = lift(table)
    assert found == Lift(0, 1, {"timeout": 1}, [], [])


def test_each_solver_has_its_own_comparison() -> None:
    tables = [rows(kind, each(kind == TRAINED, 0), solver=solver) for solver in "ST" for kind in (NONE, TRAINED)]
    found = lift(pd.concat(tables))
    assert [(pair.solver, pair.paired.difference.value) for pair in found.pairs] == [("S", 0.5), ("T", 0.5)]
    named = entry.metrics(found, "S")
    assert named["trained_over_none"] == named["T/trained_over_none"] == 0.5
    assert named["none_accuracy"] == 0.0


def test_examples_show_the_sample_that_changed() -> None:
    table = pd.concat([rows(NONE, [[1, 0], [0, 0]]), rows(TRAINED, [[1, 1], [0, 0]], leaks=[0])])
    (pair,) = lift(table).pairs
    (example,) = examples(table.assign(solution=table["kind"] + table["sample"].astype(str)), pair, pair.helped, 5)
    assert example["solution, none"] == "none1"
    assert example["guideline, trained"] == "trained 0 (gives the answer away)"
    assert pair.paired.p_value is None, "several samples of a problem are no single verdict"


@pytest.mark.parametrize(
    ("base", "better", "expected"),
    [((0,) * 20, (1,) * 20, "helps"), ((1,) * 20, (0,) * 20, "harms"), ((0, 1) * 9, (1, 0) * 9, "no difference")],
)
def test_the_verdict_says_what_the_interval_allows(base: tuple[int], better: tuple[int], expected: str) -> None:
    (pair,) = lift(pd.concat([rows(NONE, each(*base)), rows(TRAINED, each(*better))])).pairs
    assert expected in verdict(pair)


def test_a_planner_with_one_guideline_for_most_problems_is_named() -> None:
    table = pd.concat([rows(NONE, each(0, 1, 0)), rows(UNTRAINED, each(0, 0, 0)), rows(TRAINED, each(1, 0, 1))])
    trained = table["kind"] == TRAINED
    table.loc[trained, "guideline"] = ["Read\x1b[31m the problem.\n", "Read\x1b[31m the problem.", "Add."]
    again = pd.concat([table, table.assign(solver="T")])
    assert (
        same_for_several(table)
        == same_for_several(again)
        == [
            "The trained planner's guidelines repeat themselves: 67% are also those of another problem, 2 of 3 are "
            "“Read�[31m the problem.”."
        ]
    )
    assert [one.repeated for one in lift(table).arms] == pytest.approx([NAN, 0, 2 / 3], nan_ok=True)
    table.loc[trained, "guideline"] = ["Read.", "Add.", "Divide."]
    assert same_for_several(table) == []


def test_the_result_is_json_and_has_no_nan() -> None:
    table = pd.concat([rows(NONE, each(0, 1)), rows(TRAINED, each(1, 0), leaks=[0, 1])])
    problems = load_problems([Problem("q", "7", "s")])
    answer = Result("r", "id", 4, problems, (0.0, 0.0), lift(table), table).as_json()
    assert "NaN" not in json.dumps(answer)
    assert answer["arms"][1]["without_leaks"] == {"value": None, "low": None, "high": None, "n": 0}
    assert answer["pairs"][0]["helped_examples"][0]["solution, trained"] == "trained solution 0"


def test_the_page_and_the_terminal_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.concat([rows(NONE, each(0, 1, 0)), rows(TRAINED, each(1, 0, 1), leaks=[0])])
    table["solution"] = "red \x1b[31m <b>"
    table.loc[table["kind"] == TRAINED, "guideline"] = "Read it."
    result = Result("r", "id", 4, load_problems([Problem("q", "7", "s")]), (0.0, 0.0), lift(table), table)
    html = lift_page.page([result])
    show(result, plain_console(width=300))
    printed = capsys.readouterr().out
    (pair,) = result.found.pairs
    assert same_for_several(table)
    for said in (verdict(pair), *notes(result), *same_for_several(table)):
        assert escape(said) in html
        assert said in printed
    assert "\x1b[31m" not in printed, "a model's words must not steer a terminal"
    assert "<b>\n" not in html
    assert "&lt;b&gt;" in html


def load_problems(problems: list[Problem]) -> Problems:
    return Problems("d", "d.jsonl", problems, {})


# -- problems

MATH = {"problem": "What is 1+1?", "solution": "\\boxed{2}", "answer": "2", "subject": "Algebra", "level": 1}
NUMINA = {"problem_type": "Algebra", "problem_is_valid": "Yes", "solution_is_valid": "Yes", "source": "amc"}
SCHEMAS: dict[str, tuple[list[dict[str, object]], list[str]]] = {
    "math500": ([{**MATH, "unique_id": "a/1"}], ["2"]),
    "aime_2024": ([{"ID": "2024-I-1", "Problem": "Find n.", "Solution": "It is 25.", "Answer": 25}], ["25"]),
    "aime25": ([{"id": "0", "problem": "Find m.", "answer": "70", "year": 2025}], ["70"]),
    "gsm8k": ([{"question": "How many eggs?", "answer": "16 - 3 = 13\n#### 1,013"}], ["1013"]),
    "numina_cot": ([{"source": "aops", "problem": "Solve x.", "solution": "$\\boxed{\\frac12}$", "messages": []}],
                   ["\\frac12"]),
    "numina_15": ([{**NUMINA, "problem": "Add.", "solution": "3", "answer": "3", "question_type": "math-word-problem"},
                   {**NUMINA, "problem": "Show it.", "solution": "", "answer": "proof", "question_type": "proof"}],
                  ["3"]),
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", SCHEMAS)
def test_public_schemas_load_as_they_are(name: str, suffix: str, tmp_path: Path, quickstart: DictConfig) -> None:
    lines, golds = SCHEMAS[name]
    file = tmp_path / f"{name}.{suffix}"
    if suffix == "parquet":
        pd.DataFrame(lines).drop(columns="messages", errors="ignore").to_parquet(file)
    else:
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = load(str(file), quickstart, set(), None)
    assert ([problem.gold for problem in found.problems], found.label) == (golds, name)
    assert found.left_out == ({"proof": 1} if len(lines) > 1 else {})


def test_a_prepared_file_is_read_back_and_what_was_trained_on_is_left_out(tmp_path: Path) -> None:
    dataset.prepare("word-problems", tmp_path / "data", size=20, seed=0, val_size=5)
    files = {"data.train_files": tmp_path / "data/train.parquet", "data.val_files": tmp_path / "data/val.parquet"}
    config = compose("quickstart", [f"{key}={value}" for key, value in files.items()], environ={})
    seen = trained_on(config)
    assert len(seen) == 20
    assert len(load(config.data.val_files, config, seen, None).problems) == 5
    assert len(load(config.data.val_files, config, seen, 3).problems) == 3
    with pytest.raises(DatasetError, match="seen_in_training: 20"):
        load(config.data.train_files, config, seen, None)
    gone = compose("quickstart", ["data.train_files=/gone.parquet"], environ={})
    assert trained_on(gone) == set()


def test_new_problems_are_held_out(quickstart: DictConfig) -> None:
    first = load("word-problems", quickstart, set(), 50)
    seen = {problem.problem_id for problem in first.problems[:10]}
    found = load("word-problems", quickstart, seen, 50)
    ids = [problem.problem_id for problem in found.problems]
    assert len(set(ids)) == 50
    assert not seen & set(ids)
    assert ids[:40] == [problem.problem_id for problem in first.problems[10:]]


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("word-problems", "", "--problems N"),
        ("gone.jsonl", None, "is no file"),
        ("empty.jsonl", "", "no problem to measure on"),
        ("broken.parquet", "x", "parquet"),
    ],
)
def test_data_that_is_no_data_is_refused(
    source: str, text: str | None, expected: str, tmp_path: Path, quickstart: DictConfig
) -> None:
    if text is not None and source != "word-problems":
        source = str(tmp_path / source)
        Path(source).write_text(text)
    with pytest.raises(DatasetError, match=expected):
        load(source, quickstart, set(), None)


# -- engines and answers

ROLLOUT = "actor_rollout_ref.rollout"


def test_the_engines_are_the_runs_own(quickstart: DictConfig) -> None:
    planner = engine_of(quickstart, quickstart.actor_rollout_ref.rollout)
    assert (planner["dtype"], planner["kv_cache_memory_bytes"]) == ("float32", 134217728)
    assert "worker_extension_cls" not in planner
    assert engine_of(quickstart, quickstart.reward.reward_model.rollout)["dtype"] == "bfloat16"
    gpu = compose("numinamath30k-3b-300steps", environ={})
    assert engine_of(gpu, gpu.actor_rollout_ref.rollout) == {
        "dtype": "bfloat16",
        "enforce_eager": False,
        "tensor_parallel_size": 1,
        "gpu_memory_utilization": 0.9,
        "max_num_seqs": 168,
        "compilation_config": {
            "mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY",
            "cudagraph_capture_sizes": list(gpu.actor_rollout_ref.rollout.cudagraph_capture_sizes),
        },
    }  # fmt: skip
    plain = compose("numinamath30k-3b-300steps", [
        f"{ROLLOUT}.cudagraph_capture_sizes=null", f"{ROLLOUT}.engine_kwargs.vllm.compilation_config=null",
    ], environ={})  # fmt: skip
    assert "compilation_config" not in engine_of(plain, plain.actor_rollout_ref.rollout)


def test_one_sample_is_greedy_and_several_are_not(quickstart: DictConfig) -> None:
    plan = Plan(quickstart, {}, [], 1, Path())
    assert plan.temperatures == (0.0, 0.0)
    assert Plan(quickstart, {}, [], 4, Path()).temperatures == (0.8, 0.8)
    sampled = compose("quickstart", ["guidelines.solver.temperature=0.7"], environ={})
    assert Plan(sampled, {}, [], 4, Path()).temperatures == (0.8, 0.7)
    assert Plan(sampled, {}, [], 1, Path()).temperatures == (0.0, 0.0)
    several = Plan(quickstart, {}, [], 4, Path())
    assert planner_sampling(several, 0.8)["max_tokens"] == 32
    assert solver_sampling(several, 0.8) == {"temperature": 0.8, "top_p": 1.0, "top_k": -1, "max_tokens": 48}


@pytest.mark.parametrize(("samples", "lengths"), [(1, (50, 70)), (4, (32, 48))])
def test_one_sample_may_be_as_long_as_in_validation(samples: int, lengths: tuple[int, int]) -> None:
    longer = ["guidelines.planner.val_max_tokens=50", "guidelines.solver.val_max_tokens=70"]
    plan = Plan(compose("quickstart", longer, environ={}), {}, [], samples, Path())
    assert (planner_sampling(plan, 0.0)["max_tokens"], solver_sampling(plan, 0.0)["max_tokens"]) == lengths


# -- the command


def test_the_checkpoint_is_a_sealed_one_or_none(tmp_path: Path) -> None:
    for step, accuracy in ((2, 0.7), (4, 0.5), (6, None)):
        folder = tmp_path / f"global_step_{step}"
        folder.mkdir()
        if step < 6:
            seal(folder, accuracy)
    found = [entry.chosen(asked, tmp_path) for asked in ("best", "last", "4")]
    assert [checkpoint and checkpoint.step for checkpoint in found] == [2, 4, 4]
    assert entry.chosen("best", tmp_path / "gone") is None
    for asked in ("6", "newest", "-1", ""):
        with pytest.raises(ExportError, match="expected one of 2, 4, last, best"):
            entry.chosen(asked, tmp_path)


@pytest.mark.parametrize(
    ("overrides", "arguments", "expected"),
    [
        (None, [], "recorded no config.yaml"),
        ([], [], "give --out DIR"),
        ([], ["--out", "OUT", "--checkpoint", "7"], "the run has no whole checkpoint"),
        (["actor_rollout_ref.model.path=/gone"], ["--out", "OUT"], "model /gone is not on this machine"),
        ([], ["--out", "OUT", "--data", "gone.jsonl"], "gone.jsonl is no file"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    overrides: list[str] | None,
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(uri)
    experiment = client.create_experiment("e", (tmp_path / "mlruns").as_uri())
    run_id = client.create_run(experiment, tags={"guidelines.checkpoints": "/gone/run"}).info.run_id
    if overrides is not None:
        models = ["actor_rollout_ref.model.path=models/tiny-random", "guidelines.solver.model=models/tiny-random"]
        config = compose("quickstart", [*models, *overrides], environ={}).copy()
        OmegaConf.set_readonly(config, False)
        for section, key in ((config.actor_rollout_ref.model, "path"), (config.guidelines.solver, "model")):
            if section[key] != "/gone":
                section[key] = str(tiny(tmp_path))
        client.log_text(run_id, OmegaConf.to_yaml(config), "config.yaml")
    assert entry.main([run_id, *(str(tmp_path / "out") if word == "OUT" else word for word in arguments)]) == 2
    assert expected in capsys.readouterr().err


def tiny(folder: Path) -> Path:
    """A folder that looks like a model as far as a refusal needs it."""
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model/config.json").write_text("{}")
    return folder / "model"
