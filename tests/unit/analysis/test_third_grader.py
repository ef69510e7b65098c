from __future__ import annotations

import subprocess
import sys

from guidelines_core.paths import ROOT

SCRIPT = """
import pandas as pd
from guidelines_core.grading.verdicts import GRADERS
GRADERS["third_way"] = GRADERS["exact_match"]
from analysis.stats.comparison import accuracies
from analysis.stats.summary import METRICS
from analysis.stats.verdicts import tally
from guidelines_core.reward.metrics import reward_metrics
from guidelines_core.reward.row import GradedRow, table

row = GradedRow(
    problem_id="p", question="q", gold="1", guideline="g", guideline_leak=0.0, solution="s", solution_tokens=1.0,
    solution_truncated=0.0, correct={"math_verify": 1.0, "exact_match": 0.0, "third_way": 1.0}, reason="correct",
    acc=1.0, score=1.0, solver_sampling="", asked_at="", solver_s=1.0, grader_s=0.0,
)
rows = table([row])
assert reward_metrics(rows)["reward/third_way_accuracy"] == 1.0
assert METRICS["reward/third_way_accuracy"] == "accuracy in training, third way"
assert tally(rows.assign(kind="integer")).loc["all", "third_way"] == 1
assert accuracies({"a": rows, "b": rows}).loc["a", "third way"] == 1.0
from guidelines_core.launch.console import summary
from guidelines_core.launch.training import Outcome
step = {**reward_metrics(rows), "training/global_step": 1, "timing_s/step": 1.0}
labels = list(summary([step], Outcome("FINISHED", ""), "folder").columns[0].cells)
assert "solver accuracy by third_way" in labels, labels
"""


def test_a_grader_that_is_added_appears_in_metrics_terminal_and_analysis() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
