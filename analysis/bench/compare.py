"""Measures seconds and memory of `analysis/compare.py` on a store of long runs, which this command creates.

    python -m analysis.bench.compare [--out analysis/results/compare.json] [--keep FOLDER]

The store: 10 runs of 300 steps x 130 metrics x 120 graded rows, with the reference experiments' configurations and a
validation of 300 problems every 50 steps, beside 1,000 small runs. Solutions have 600 words; the graders give the
verdicts. With --keep, the store stays in FOLDER, and an existing one is measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from omegaconf import OmegaConf

from analysis.stats.summary import NEEDED
from guidelines_core.config.compose import compose
from guidelines_core.config.flat import flat
from guidelines_core.grading.pool import GradingPool
from guidelines_core.paths import ROOT
from guidelines_core.runs.lookup import PARENT

EXPERIMENT = "query-conditioned-guidelines"
GRADED_BY = ("numinamath30k-3b-300steps", "numinamath30k-3b-300steps-mathverify")
SIZES = {
    "signal/samples": 4.4,
    "timing_s/step": 60.0, "timing_s/gen": 20.0, "timing_s/old_log_prob": 6.0, "timing_s/ref": 10.0,
    "timing_s/adv": 0.1,
    "timing_s/update_actor": 22.0, "timing_s/update_weights": 0.5, "guideline/tokens": 300.0, "solution/tokens": 600.0,
    "prompt_length/mean": 150.0, "actor/entropy": 1.2, "actor/kl_loss": 0.01, "actor/reward_kl_penalty": 0.01,
    "reward/ungraded": 0.0,
}  # fmt: skip
"""The typical size of a metric; others are shares."""

ANSWERS = (
    ("18", "18"), ("18", "19"), ("0.5", r"\frac{1}{2}"), (r"\frac{3}{4}", "0.75"), (r"\frac{3}{4}", r"\frac{3}{4}"),
    (r"50\%", "50"), (r"12\text{ cm}", "12"), ("x = 3", "3"), ("(1,2)", "(1, 2)"), (r"\{1,2\}", "2, 1"),
    (r"\sqrt{8}", r"2\sqrt{2}"), (r"\text{Monday}", "Tuesday"), ("1{,}000", "1000"), ("7", "8"), ("-2", "2"),
)  # fmt: skip
"""Golds and answers, equal by both graders, by math-verify alone, or by none."""


def main() -> int:
    """Create the store, run the comparison, print and write the figures; return 0."""
    parser = argparse.ArgumentParser(description="Time the comparison of ten long runs.")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file, too")
    parser.add_argument("--keep", type=Path, help="make the store here, or use the one that is here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-compare-") as folder:
        store = (options.keep or Path(folder)).resolve()
        began = time.monotonic()
        if not (store / "mlflow.db").exists():
            make_store(store, [f"run-{number}" for number in range(10)], others=1000)
        print(f"store: {time.monotonic() - began:.0f} s", file=sys.stderr)
        figures = measure(store, [f"run-{number}" for number in range(10)])
    print(json.dumps(figures, indent=1))
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def measure(store: Path, names: Sequence[str]) -> dict[str, object]:
    """Compare the runs in a separate process, to a page and a JSON file; return its seconds and peak memory."""
    command = ["analysis/compare.py", *names, "--json", str(store / "out.json"), "--html", str(store / "out.html")]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri(store)}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    seconds, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "command": "python -m analysis.bench.compare",
        "runs": len(names),
        "cpus": os.cpu_count(),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime, 2),
        "peak_memory_gb": round(used.ru_maxrss * 1024 / 1e9, 2),
        "page_mb": round((store / "out.html").stat().st_size / 1e6, 2),
    }


def uri(store: Path) -> str:
    """Return the address of the MLflow store in a folder."""
    return f"sqlite:///{store / 'mlflow.db'}"


def make_store(
    store: Path,
    names: Sequence[str],
    *,
    steps: int = 300,
    samples: int = 120,
    problems: int = 300,
    metrics: int = 130,
    others: int = 0,
) -> MlflowClient:
    """Create an MLflow store with a run for each name, graded by exact match and math-verify in turns.

    Args:
        store: the folder; created if needed.
        names: the runs' names.
        steps: of each run; it is validated every 50 steps and at the end.
        samples: graded rows a step.
        problems: of each validation.
        metrics: logged each step.
        others: small runs that stand beside them.
    """
    store.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(uri(store))
    experiment = client.create_experiment(EXPERIMENT, artifact_location=(store / "mlruns").as_uri())
    with GradingPool() as pool:
        solutions = [rf"So the answer is $\boxed{{{answer}}}$." for _, answer in ANSWERS]
        graded = [pool.grade_sync(gold, text) for (gold, _), text in zip(ANSWERS, solutions, strict=True)]
    verdicts = [(verdict["math_verify"].correct, verdict["exact_match"].correct) for verdict in graded]
    for number in range(others):
        tags = {PARENT: "0" * 32} if number % 2 else {}
        run_id = client.create_run(experiment, run_name=f"trial-{number}", tags=tags).info.run_id
        client.log_batch(run_id, [Metric("reward/mean", 0.5, 0, 1)], [Param(f"key{k}", str(k)) for k in range(50)])
        client.set_terminated(run_id)
    for number, run_name in enumerate(names):
        chance = random.Random(number)
        run_id = client.create_run(experiment, run_name=run_name, tags={"git.commit": "0" * 40}).info.run_id
        config = compose(GRADED_BY[number % 2], [f"trainer.default_local_dir={store / run_name}"])
        client.log_text(run_id, OmegaConf.to_yaml(config), "config.yaml")
        params = [Param(key, str(value)[:100]) for key, value in flat(OmegaConf.to_object(config)).items()]  # type: ignore[arg-type]
        for first in range(0, len(params), 100):
            client.log_batch(run_id, params=params[first : first + 100])
        with tempfile.TemporaryDirectory() as folder:
            for step in range(1, steps + 1):
                logged = [
                    metric for metric in {**SIZES, **dict.fromkeys(NEEDED)} if not metric.startswith("validation/")
                ]
                logged += [f"verl/metric_{k}" for k in range(metrics - len(logged))]
                rows(chance, step, samples, verdicts, solutions).to_parquet(f"{folder}/train_{step:06d}.parquet")
                if step % 50 == 0 or step == steps:
                    checked = rows(chance, step, problems, verdicts, solutions)
                    checked["problem_id"] = [f"val-{k}" for k in range(problems)]
                    checked.to_parquet(f"{folder}/validation_{step:06d}.parquet")
                    client.log_metric(run_id, "validation/accuracy", float(checked["acc"].mean()), step=step)
                    client.log_metric(run_id, "validation/problems", float(problems), step=step)
                now = int(time.time() * 1000)
                client.log_batch(
                    run_id, [Metric(name, _value(name, chance, step / steps), now, step) for name in logged]
                )
            client.log_artifacts(run_id, folder, "rows")
        client.set_terminated(run_id)
    return client


def _value(metric: str, chance: random.Random, done: float) -> float:
    noise = chance.gauss(1, 0.1)
    return SIZES[metric] * noise if metric in SIZES else (0.3 + 0.2 * done) * noise


def rows(
    chance: random.Random,
    step: int,
    count: int,
    verdicts: Sequence[tuple[bool, bool]],
    solutions: Sequence[str],
    words: int = 600,
) -> pd.DataFrame:
    """Return graded rows as `verl_adapter/graded_rows.py` writes them, with texts as long as true ones."""
    texts = [" ".join(chance.choices(("first", "then", "we", "add", "the", "two", "sides", "of", "x"), k=words))] * 8
    picked = [chance.randrange(len(ANSWERS)) for _ in range(count)]
    right = [verdicts[index] for index in picked]
    table: pd.DataFrame = pd.DataFrame(
        {
            "step": step,
            "group": [f"{step}-{k // 4}" for k in range(count)],
            "rollout": [k % 4 for k in range(count)],
            "sample": 0,
            "advantage": 0.0,
            "score": [float(math_verify) for math_verify, _ in right],
            "acc": [float(math_verify) for math_verify, _ in right],
            "reason": ["correct" if math_verify else "wrong" for math_verify, _ in right],
            "math_verify_correct": [float(math_verify) for math_verify, _ in right],
            "exact_match_correct": [float(exact_match) for _, exact_match in right],
            "problem_id": [f"problem-{step}-{k // 4}" for k in range(count)],
            "question": [f"Question {step}-{k // 4}: {texts[0][:300]}?" for k in range(count)],
            "gold": [ANSWERS[index][0] for index in picked],
            "guideline": [f"Guideline {k}: {texts[1][:200]}" for k in range(count)],
            "guideline_leak": 0.0,
            "guideline_tokens": 100,
            "guideline_truncated": 0.0,
            "solution": [f"{step}-{k} {chance.choice(texts)} {solutions[index]}" for k, index in enumerate(picked)],
            "solution_tokens": words,
            "solution_truncated": 0.0,
            "solver_s": 1.0,
            "grader_s": 0.01,
        }
    )
    return table


if __name__ == "__main__":
    sys.exit(main())
