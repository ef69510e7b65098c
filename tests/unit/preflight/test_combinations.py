"""Which features work together on which layout: each combination that does not is refused by its key."""

from __future__ import annotations

from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig

from guidelines_core.config.compose import changed, compose
from guidelines_core.preflight import config_findings
from guidelines_core.preflight.findings import Finding
from guidelines_core.preflight.machine import cluster_findings

FAST = "numinamath30k-3b-300steps-mathverify-fast"
MODE, BESIDE = "trainer.v1.trainer_mode", "guidelines.reference_beside_solver"
FILTER, REFILL = "algorithm.filter_groups.enable", "trainer.v1.sampler.sync_refill_failed_groups"
URL, FORK, HYBRID = "guidelines.solver.url", "guidelines.fork_processes", "actor_rollout_ref.hybrid_engine"
ROLLOUT_BESIDE = "guidelines.rollout_beside_solver"

FEATURES: dict[str, dict[str, object]] = {
    "url": {URL: "http://host:8000/v1"},
    "samples": {"guidelines.solver.samples": 4, "guidelines.solver.temperature": 0.7},
    "lora": {"actor_rollout_ref.model.lora_rank": 32, "actor_rollout_ref.model.lora.merge": True},
    "reference": {BESIDE: True},
    "fork": {FORK: True},
    "no fork": {FORK: False},
    "filter": {FILTER: True},
    "refill": {REFILL: True},
    "colocate_async": {MODE: "colocate_async"},
}

APART, IN_TURNS = ("1p1", "hybrid-3p1-x2"), ("colocated-1", "hybrid-4-shared")
SPLIT, ELSEWHERE = ("split-1p2p1", "split-1p1-shared"), ("train-only-4",)
LAYOUTS = (*APART, *IN_TURNS, *SPLIT, *ELSEWHERE)


@lru_cache
def composed(layout: str) -> DictConfig:
    return compose(FAST, [f"layout={layout}"], environ={})


def refused(layout: str, features: frozenset[str]) -> set[str]:
    """Return the keys of the errors about a layout with these features."""
    values = {key: value for name in sorted(features) for key, value in FEATURES[name].items()}
    config = changed(composed(layout), values)
    found: list[Finding] = [*config_findings(config), *cluster_findings(config, 64)]
    assert all(finding.reason and finding.remedy for finding in found)
    return {finding.key for finding in found if finding.severity == "error"}


def expected(layout: str, features: frozenset[str]) -> set[str]:
    """Return the keys that are to be refused: of the layout alone, with one feature, and of two together."""
    keys = set()
    if ("url" in features) != (layout in ELSEWHERE):
        keys.add(URL)
    if "reference" in features and (layout in (*IN_TURNS, *SPLIT) or features & {"filter", "refill", "colocate_async"}):
        keys.add(BESIDE)
    if "fork" in features and layout == "hybrid-3p1-x2":
        keys.add(FORK)
    if "filter" in features and layout in IN_TURNS:
        keys.add(FILTER)
    if "colocate_async" in features and layout in IN_TURNS:
        keys.add(MODE)
    if "colocate_async" in features and layout in SPLIT:
        # A split layout's own key does not fit another trainer.
        keys |= {ROLLOUT_BESIDE} if layout == "split-1p1-shared" else {HYBRID}
    return keys


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_feature_on_a_layout_works_or_is_refused_by_its_key(layout: str) -> None:
    needed = frozenset({"url"}) if layout in ELSEWHERE else frozenset()
    assert refused(layout, needed) == set()
    for name in FEATURES:
        assert refused(layout, needed ^ {name}) == expected(layout, needed ^ {name}), name


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(LAYOUTS), st.frozensets(st.sampled_from(sorted(set(FEATURES) - {"no fork"}))))
def test_features_together_are_refused_by_the_key_of_each_that_does_not_work(
    layout: str, features: frozenset[str]
) -> None:
    assert refused(layout, features) == expected(layout, features)


def test_a_trainer_that_rolls_out_ahead_may_share_the_solvers_gpus_where_nothing_is_validated_or_ahead() -> None:
    config = changed(composed("colocated-1"), {MODE: "colocate_async"})
    for key, value in (("trainer.test_freq", -1), ("trainer.v1.colocate_async.num_warmup_batches", 0)):
        found = config_findings(changed(config, {key: value}))
        assert [finding.key for finding in found if finding.severity == "error"] == []


@pytest.mark.parametrize("layout", ["split-1p1-shared", "1p1"])
def test_a_side_of_the_weight_transfer_that_may_use_another_socket_is_named(layout: str) -> None:
    rollout = "actor_rollout_ref.rollout"
    extension = f"{rollout}.engine_kwargs.vllm.worker_extension_cls"
    module = f"{rollout}.checkpoint_engine.custom_backend_module"
    for value, severity in ((None, "error"), ("mine.Receiver", "warning")):
        found = config_findings(changed(composed(layout), {extension: value, module: value}))
        keys = [finding.key for finding in found if finding.severity == severity]
        assert keys == ([extension, module] if layout == "split-1p1-shared" else [extension])
