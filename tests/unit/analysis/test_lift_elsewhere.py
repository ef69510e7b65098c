"""The worth of guidelines to a solver that runs elsewhere, over a real HTTP server on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from analysis.lift import LiftRefused, main, other_solver
from analysis.lifts import answers
from analysis.lifts.answers import GenerationFailed, Plan
from analysis.lifts.arms import measure
from analysis.lifts.elsewhere import Elsewhere, name_of, solver_of, unfit
from guidelines_core.config.compose import compose
from guidelines_core.data.problems import Problem
from guidelines_core.json_lines import read_lines
from tests.support.solver_server import Server, serving

KEY = "planted-solver-key-51c0"
PROBLEMS = [Problem("2 + 2?", "4", "test"), Problem("2 + 3?", "5", "test"), Problem("1 + 3?", "4", "test")]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("SOLVER_KEY", KEY)
    with serving() as told:
        yield told


@pytest.fixture(scope="module")
def config() -> DictConfig:
    return compose("quickstart", ["guidelines.solver.deadline_s=20"], environ={})


def at(server: Server) -> Elsewhere:
    return Elsewhere((server.url,), "m", "SOLVER_KEY")


def test_its_answers_are_kept_graded_and_asked_for_once(server: Server, config: DictConfig, tmp_path: Path) -> None:
    plan = Plan(config, {}, [at(server)], 2, tmp_path)
    (rows,) = measure(plan, [PROBLEMS], Console(quiet=True))
    # The server always writes 4.
    assert rows.groupby("gold")["correct"].mean().to_dict() == {"4": 1.0, "5": 0.0}
    assert set(rows["solver"]) == {"m"}
    assert rows["solution_cut"].all()
    assert len(rows) == len(server.requests) == 6
    assert len({request["seed"] for request in server.requests}) == 6, "the two samples of a problem differ"
    assert {(request["max_tokens"], request["temperature"]) for request in server.requests} == {(48, 0.8)}
    assert set(server.keys) == {f"Bearer {KEY}"}
    (file,) = tmp_path.glob("solutions-none-*.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    (again,) = measure(plan, [PROBLEMS], Console(quiet=True))
    assert len(server.requests) == 7
    assert again.equals(rows)
    assert KEY not in file.read_text()


def test_a_problem_of_two_sets_is_asked_once_and_graded_in_each(
    server: Server, config: DictConfig, tmp_path: Path
) -> None:
    sets = [PROBLEMS[:2], [Problem("2 + 3?", "4", "other"), PROBLEMS[2]]]
    one, two = measure(Plan(config, {}, [at(server)], 1, tmp_path), sets, Console(quiet=True))
    assert len(server.requests) == 3
    assert one.set_index("question")["correct"].to_dict() == {"2 + 2?": 1.0, "2 + 3?": 0.0}
    assert two.set_index("question")["correct"].to_dict() == {"2 + 3?": 1.0, "1 + 3?": 1.0}
    assert two["source"].tolist() == ["other", "test"]


def test_a_prompt_beyond_its_context_has_no_solution_and_another_refusal_ends_it(
    server: Server, config: DictConfig, tmp_path: Path
) -> None:
    plan = Plan(config, {}, [at(server)], 1, tmp_path)
    server.failures, server.said = [400], "This model's maximum context length is 64 tokens."
    (rows,) = measure(plan, [PROBLEMS], Console(quiet=True))
    assert "too_long" in set(rows["reason"])
    assert rows["correct"].isna().sum() == 1
    server.failures, server.said = [403], "no"
    with pytest.raises(GenerationFailed, match=r"/v1#m: the solver refused the request: HTTP status 403"):
        measure(Plan(config, {}, [at(server)], 2, tmp_path), [PROBLEMS], Console(quiet=True))


def test_the_runs_own_solver_is_asked_where_it_is(config: DictConfig) -> None:
    assert solver_of(config) == config.guidelines.solver.model
    words = ["url=[http://a:1/v1,http://b:2/v1]", "model=Qwen/Qwen2.5-3B", "key_env=SOLVER_KEY"]
    elsewhere = compose("quickstart", ["layout=cpu-train-only", *(f"guidelines.solver.{w}" for w in words)], environ={})
    found = solver_of(elsewhere)
    assert found == Elsewhere(("http://a:1/v1", "http://b:2/v1"), "Qwen/Qwen2.5-3B", "SOLVER_KEY")
    assert name_of(found) == "Qwen2.5-3B"
    assert str(found) == "http://a:1/v1,http://b:2/v1#Qwen/Qwen2.5-3B"


def test_a_solver_is_named_by_url_and_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert other_solver("http://a:1/v1#x/y", "K") == Elsewhere(("http://a:1/v1",), "x/y", "K")
    assert other_solver("Qwen/Qwen2.5-3B", None) == "Qwen/Qwen2.5-3B"
    for text, said in (
        ("http://a:1/v1", "no URL of a server; expected URL#MODEL"),
        ("http://a:1/v1#", "no model is named; expected URL#MODEL"),
        ("http://me:hidden@a/v1#m", "user name or password"),
        ("https://a/v1?key=hidden#m", "behind ? or #"),
    ):
        with pytest.raises(LiftRefused) as error:
            other_solver(text, None)
        assert said in str(error.value)
        assert "hidden" not in str(error.value)


def test_servers_that_cannot_answer_are_named_before_anything_is_measured(server: Server, config: DictConfig) -> None:
    assert unfit(at(server), config, 0.0) == []
    asked = json.dumps(server.requests)
    assert '"max_tokens": 1' in asked
    (said,) = unfit(Elsewhere((server.url,), "n", "SOLVER_KEY"), config, 0.0)
    assert f"{server.url} serves m; did you mean m?" in said
    (said,) = unfit(Elsewhere((server.url,), "m", "NO_SUCH_KEY"), config, 0.0)
    assert "NO_SUCH_KEY is not set" in said


def write_guidelines(_: DictConfig, job: Path, *__: object) -> None:
    """Write a guideline for each request of `job`, in place of the process that would load the planner."""
    for pair in json.loads(job.read_text())["tasks"]:
        lines = [
            {"id": line["id"], "text": "Add.", "tokens": 2, "finish": "stop"}
            for line in read_lines(Path(pair["requests"]))
        ]
        Path(pair["answers"]).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_one_command_measures_transfer_and_records_it_with_the_run(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run's own solver is on the server, too, under another name; both get the same guidelines."""
    server.models = [{"id": "own"}, {"id": "other"}]
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(answers, "_generate", write_guidelines)
    (tmp_path / "planner").mkdir()
    (tmp_path / "planner/config.json").write_text("{}")
    words = [f"url={server.url}", "model=own", "key_env=SOLVER_KEY"]
    config = compose("quickstart", ["layout=cpu-train-only", *(f"guidelines.solver.{w}" for w in words)], environ={})
    config = config.copy()
    OmegaConf.set_readonly(config, False)
    config.actor_rollout_ref.model.path = str(tmp_path / "planner")
    client = MlflowClient(uri)
    experiment = client.create_experiment("e", (tmp_path / "mlruns").as_uri())
    run_id = client.create_run(experiment).info.run_id
    client.log_text(run_id, OmegaConf.to_yaml(config), "config.yaml")
    problems = tmp_path / "sums.jsonl"
    problems.write_text("".join(json.dumps({"problem": p.question, "answer": p.gold}) + "\n" for p in PROBLEMS))
    asked = [run_id, "--data", str(problems), "--out", str(tmp_path / "out"), "--json", "-"]
    assert main([*asked, "--solver", f"{server.url}#other", "--solver-key-env", "SOLVER_KEY"]) == 0
    printed = capsys.readouterr().out
    found = json.loads(printed)["sums"]
    assert [(arm["solver"], arm["kind"]) for arm in found["arms"]] == [
        (solver, kind) for solver in ("own", "other") for kind in ("none", "untrained")
    ]
    assert all(arm["accuracy"]["value"] == pytest.approx(2 / 3) for arm in found["arms"])
    sent = [request for request in server.requests if request["max_tokens"] > 1]
    assert {name: sum(request["model"] == name for request in sent) for name in ("own", "other")} == {
        "own": 6,
        "other": 6,
    }
    own, other = ([r["messages"] for r in sent if r["model"] == name] for name in ("own", "other"))
    assert sorted(map(json.dumps, own)) == sorted(map(json.dumps, other))
    assert sum("Add." in json.dumps(chat) for chat in own) == 3
    metrics = client.get_run(run_id).data.metrics
    transferred = [value for name, value in metrics.items() if name.endswith("sums/other/untrained_accuracy")]
    assert transferred == [pytest.approx(2 / 3)]
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in kept if KEY.encode() in path.read_bytes()] == []
    assert KEY not in printed


def test_a_server_without_the_model_is_refused_by_the_command(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(uri)
    run_id = client.create_run(client.create_experiment("e", (tmp_path / "mlruns").as_uri())).info.run_id
    (tmp_path / "planner").mkdir()
    (tmp_path / "planner/config.json").write_text("{}")
    config = compose("quickstart", environ={}).copy()
    OmegaConf.set_readonly(config, False)
    config.actor_rollout_ref.model.path = config.guidelines.solver.model = str(tmp_path / "planner")
    client.log_text(run_id, OmegaConf.to_yaml(config), "config.yaml")
    words = ["--solver", f"{server.url}#gone", "--solver-key-env", "SOLVER_KEY", "--out", str(tmp_path / "out")]
    assert main([run_id, *words]) == 2
    assert f"{server.url} serves m; did you mean m?" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
