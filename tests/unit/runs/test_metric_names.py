from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from guidelines_core.runs.metric_names import TABLE, meanings, recorded, shown

GROUPS = yaml.safe_load(TABLE.read_text())
PREFIXES = [name.partition("*")[0] for group in GROUPS.values() for name, _ in group.values()]


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("reward/mean", "1_outcome/reward"),
        ("reward/math_verify_accuracy", "1_outcome/accuracy_math_verify"),
        ("reward/a_third_grader_accuracy", "1_outcome/accuracy_a_third_grader"),
        ("validation/uplift", "1_outcome/validation_uplift"),
        ("actor/kl_loss", "3_health/kl"),
        ("training/rollout_probs_diff_max", "3_health/rollout_difference_max"),
        ("timing_s/step", "4_cost/step_s"),
        ("timing_s/gen", "4_cost/seconds/gen"),
        ("cost/gpu_hours", "4_cost/gpu_hours"),
        ("actor/lr", "actor/lr"),
        ("training/global_step", "training/global_step"),
        ("sweep/graded_rollouts_per_s", "sweep/graded_rollouts_per_s"),
    ],
)
def test_a_metric_has_one_name_in_mlflow_and_is_found_by_it(metric: str, name: str) -> None:
    assert shown(metric) == name
    assert recorded(name) == metric
    assert recorded(metric) == metric, "an older run's name is read as it is"


@given(st.sampled_from(PREFIXES), st.from_regex(r"[a-z_/]{0,12}", fullmatch=True))
def test_no_two_metrics_share_a_name_and_each_is_named_back(prefix: str, rest: str) -> None:
    assert recorded(shown(prefix + rest)) == prefix + rest


def test_a_runs_description_says_what_each_metric_of_the_groups_is() -> None:
    lines = meanings().splitlines()[2:]
    assert [line.split("`")[1] for line in lines] == [f"{group}/{name}" for group in GROUPS for name in GROUPS[group]]
    assert all(line.count("|") == 3 and len(line.split("|")[2].split()) > 2 for line in lines)
    # MLflow cuts a tag at 8,000 characters; a run's own description stands before the table.
    assert len(meanings()) < 6000


def test_the_groups_sort_before_all_of_verls() -> None:
    assert list(GROUPS) == sorted(GROUPS)
    assert all(group[0].isdigit() for group in GROUPS)
