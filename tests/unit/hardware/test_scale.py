"""What a step takes on many GPUs, by the estimate's parts."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis.diagnosis.divisions import MODES, Mode, splits
from guidelines_core.config import layout
from guidelines_core.config.compose import changed, compose
from guidelines_core.hardware.network import collective, micro_batches, training_seconds, weights_seconds
from guidelines_core.hardware.scale import Terms, terms
from guidelines_core.hardware.shapes import KNOWN, find_shape, gpus
from guidelines_core.hardware.timing import MEASURED, Lengths, estimated_step
from guidelines_core.paths import ROOT
from tests.support.divided import base, divided

H200 = gpus()["H200"]
LENGTHS = Lengths(165, 600, 600)
FOUND = find_shape("Qwen/Qwen2.5-3B-Instruct")
assert FOUND is not None
SHAPE = FOUND
NETWORK = ("network beyond that", "weights to the engines")


def step(mode: Mode, split: tuple[int, ...], nodes: int, factor: int = 1) -> Terms:
    return terms(divided(mode, split, nodes, factor), SHAPE, SHAPE, H200, LENGTHS)


sizes = st.integers(1, 10**11)
workers, places = st.integers(1, 8), st.integers(1, 64)


@given(sizes, sizes, workers, places)
def test_a_collective_takes_longer_for_more_bytes_and_never_less_than_its_bytes_over_the_slowest_link(
    one: int, other: int, per_node: int, nodes: int
) -> None:
    small, large = sorted((one, other))
    took = collective(small, 3, per_node, nodes, H200)
    assert took <= collective(large, 3, per_node, nodes, H200)
    count = per_node * nodes
    if count == 1:
        assert took == 0
        return
    slowest = H200.link if nodes == 1 else min(H200.link, per_node * H200.network)
    assert took >= small * (count - 1) / count / slowest
    assert took <= collective(small, 3, per_node, 2 * nodes, H200)


divisions = st.sampled_from(MODES).flatmap(
    lambda mode: st.tuples(st.just(mode), st.sampled_from(splits(8, mode.pools)))
)


@settings(deadline=None, max_examples=10)
@given(divisions, st.sampled_from([1, 2, 8, 64]), st.sampled_from([1, 2, 128]))
def test_no_step_is_shorter_than_its_tokens_one_after_the_other(
    chosen: tuple[Mode, tuple[int, ...]], nodes: int, factor: int
) -> None:
    found = step(*chosen, nodes, factor)
    tokens = (LENGTHS.guideline + LENGTHS.solution) * 2 * SHAPE.parameters / H200.bandwidth / MEASURED.weights
    assert found.step >= tokens
    assert all(seconds >= 0 for half in (found.generating, found.training) for seconds in half.values())


@settings(deadline=None, max_examples=8)
@given(divisions, st.sampled_from([(1, 2), (2, 4), (1, 5)]))
def test_with_the_same_batch_more_nodes_make_nothing_slower_but_the_network(
    chosen: tuple[Mode, tuple[int, ...]], nodes: tuple[int, int]
) -> None:
    found = []
    for count in nodes:
        config = divided(*chosen, count)
        # verl pads the rollouts where the training GPUs do not divide them, and preflight refuses that.
        assume(120 % layout.training_gpus(config) == 0)
        found.append(terms(config, SHAPE, SHAPE, H200, LENGTHS))
    few, many = found
    for half in ("generating", "training"):
        for part, seconds in getattr(few, half).items():
            if part not in NETWORK:
                assert getattr(many, half)[part] <= seconds + 1e-9, part


def test_the_parts_are_those_of_the_estimate_where_neither_host_nor_network_limits() -> None:
    config = changed(base(MODES[1]), {"trainer.n_gpus_per_node": 1})
    found, whole = terms(config, SHAPE, SHAPE, H200, LENGTHS), estimated_step(config, H200, LENGTHS, MEASURED)
    assert found.step - found.training["validation, a step's share"] == pytest.approx(whole["step"])
    assert found.hidden == found.training["network beyond that"] == 0


def test_a_step_ahead_takes_the_longer_half_and_its_limit_is_there() -> None:
    halves = {"a": 1.0, "b": 4.0}, {"c": 4.5}
    assert (Terms(*halves, True, 0).step, Terms(*halves, True, 0).limit) == (5.0, "b")
    assert (Terms(*halves, False, 0).step, Terms(*halves, False, 0).limit) == (9.5, "c")


seconds = st.floats(0, 100, allow_subnormal=False)


@given(seconds, seconds, seconds, seconds, st.booleans())
def test_no_other_part_would_shorten_the_step_more_than_its_limit(
    a: float, b: float, c: float, d: float, ahead: bool
) -> None:
    found = Terms({"a": a, "b": b}, {"c": c, "d": d}, ahead, 0)

    def without(part: str) -> float:
        generating, training = (
            {name: 0.0 if name == part else seconds for name, seconds in half.items()}
            for half in (found.generating, found.training)
        )
        return Terms(generating, training, ahead, 0).step

    assert all(without(found.limit) <= without(part) + 1e-9 for part in "abcd")


def test_what_the_settings_limit_is_named_and_goes_away_with_them() -> None:
    config = divided(MODES[0], (8,), 64, 128)
    found = terms(config, SHAPE, SHAPE, H200, LENGTHS)
    # 15,360 requests, 512 at once: thirty waves of 600 tokens instead of one.
    wave = 600 * 2 * SHAPE.parameters / H200.bandwidth / MEASURED.weights
    assert found.generating["solutions: max_concurrency"] == pytest.approx(29 * wave, rel=0.05)
    more = {"guidelines.solver.max_concurrency": 16384}
    found = terms(changed(config, more), SHAPE, SHAPE, H200, LENGTHS)
    assert found.generating["solutions: max_concurrency"] == 0
    assert found.generating["requests: reward.num_workers"] > 40
    slow = changed(config, {**more, "reward.num_workers": 128, "guidelines.solver.samples": 500})
    assert terms(slow, SHAPE, SHAPE, H200, Lengths(1, 1, 1)).generating["verdicts: grader.workers"] > 1
    found = terms(changed(config, {**more, "reward.num_workers": 32}), SHAPE, SHAPE, H200, LENGTHS)
    assert found.generating["requests: reward.num_workers"] == 0
    assert found.limit == "driver"


def test_reward_workers_share_the_requests_in_flight() -> None:
    config = divided(MODES[0], (8,), 1, 8)
    alone, shared = (
        estimated_step(changed(config, {"reward.num_workers": count}), H200, LENGTHS, MEASURED)["gen"]
        for count in (1, 4)
    )
    assert alone == shared


def test_requests_that_the_workers_cannot_share_make_a_wave_of_their_own() -> None:
    config = changed(base(MODES[0]), {"guidelines.solver.max_concurrency": 120, "reward.num_workers": 7})
    assert layout.requests_in_flight(config) == 119
    config = changed(config, {"trainer.n_gpus_per_node": 1})
    wave = 600 * 2 * SHAPE.parameters / H200.bandwidth / MEASURED.weights
    found = terms(config, SHAPE, SHAPE, H200, LENGTHS)
    assert found.generating["solutions: max_concurrency"] == pytest.approx(wave)


def test_weights_and_gradients_pass_the_network_once_for_each_micro_batch() -> None:
    config = divided(MODES[0], (8,), 1)
    assert micro_batches(config, LENGTHS, None, 1) == 1
    ring = (SHAPE.layers + 1, 8, 1, H200)
    gather, reduce = (collective(size * SHAPE.parameters, *ring) for size in (2, 4))
    assert training_seconds(config, SHAPE, H200, LENGTHS) == {
        "update_actor": pytest.approx(2 * gather + reduce),
        "old_log_prob": pytest.approx(gather / 10),
        "ref": pytest.approx(gather),
    }
    padded = compose("numinamath30k-3b-300steps", ["layout=hybrid-4-shared"], environ={})
    # 192 rows in two optimizer steps on four GPUs, eight rows at a time; then four rows at a time.
    assert micro_batches(padded, LENGTHS, 8, 2) == 3
    ring = (SHAPE.layers + 1, 4, 1, H200)
    gather, reduce = (collective(size * SHAPE.parameters, *ring) for size in (2, 4))
    found = training_seconds(padded, SHAPE, H200, LENGTHS)
    assert found["update_actor"] == pytest.approx(6 * (2 * gather + reduce))
    once = changed(padded, {"actor_rollout_ref.actor.fsdp_config.use_no_sync_for_gradient_accumulation": True})
    found = training_seconds(once, SHAPE, H200, LENGTHS)
    assert found["update_actor"] == pytest.approx(12 * gather + 2 * reduce)
    assert found["ref"] == pytest.approx(12 * gather)


def test_weights_go_to_engines_apart_from_one_gpu_over_the_slowest_link_between() -> None:
    size = 2 * SHAPE.parameters
    together, apart, far = (
        weights_seconds(divided(mode, split, nodes), SHAPE, H200)
        for mode, split, nodes in ((MODES[0], (8,), 1), (MODES[3], (6, 1, 1), 1), (MODES[3], (6, 1, 1), 2))
    )
    assert apart > together > size * 7 / 8 / H200.link
    assert far > size / H200.network


def test_the_constants_are_what_was_measured() -> None:
    known = yaml.safe_load((KNOWN / "measured-host.yaml").read_text())
    host = json.loads((ROOT / "analysis/results/host.json").read_text())
    assert known["request_s"] == pytest.approx(host["request_s"]["512"], rel=0.05)
    assert known["grading_s"] == pytest.approx(host["grading_s"], rel=0.05)
    assert known["handing_s"] == pytest.approx(host["handing_s"], rel=0.05)
    arms = json.loads((ROOT / "analysis/results/one-gpu-h200.json").read_text())["arms"]
    phases = next(arm["phases"] for arm in arms if arm["name"] == "fast")
    outside = phases.pop("step") - sum(phases.values())
    assert known["rollout_s"] == pytest.approx((phases["adv"] + phases["old_log_prob"] + outside) / 120, rel=0.01)
