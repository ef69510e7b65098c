from __future__ import annotations

import dataclasses
import io
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig
from rich.console import Console

from analysis.bench.arms import read_arms
from guidelines_core.config.compose import changed, compose
from guidelines_core.config.layout import placements
from guidelines_core.hardware.estimate import forecast, main, measured_step, measured_training, report
from guidelines_core.hardware.footprint import checkpoint_bytes, checkpoints, host_memory, memory
from guidelines_core.hardware.shapes import Shape, find_shape, gpus
from guidelines_core.hardware.timing import (
    MEASURED,
    PEAK,
    Lengths,
    estimated_step,
    generation,
    padded_sequences,
    run_seconds,
    shapes_of,
    tokens_per_step,
    typical_lengths,
)
from guidelines_core.paths import ROOT

QWEN = find_shape("Qwen/Qwen2.5-3B-Instruct")
LENGTHS = Lengths(165, 600, 600)


@pytest.fixture(scope="module")
def reference() -> DictConfig:
    return compose("numinamath30k-3b-300steps", environ={})


def test_the_measured_step_is_met() -> None:
    config, gpu, lengths, seconds = measured_step()
    found = estimated_step(config, gpu, lengths, MEASURED)
    for phase, real in seconds.items():
        assert found[phase] == pytest.approx(real, rel=0.15), phase
    assert found["step"] == pytest.approx(seconds["step"], rel=0.1)


@pytest.mark.parametrize(
    ("name", "arm"),
    [
        ("numinamath30k-3b-300steps-mathverify", "reference"),
        ("numinamath30k-3b-300steps-mathverify-fast", "packed-liger-adam"),
    ],
)
def test_the_measured_training_side_is_met(name: str, arm: str) -> None:
    config, gpu, lengths, seconds = measured_training()[name]
    found = estimated_step(config, gpu, lengths, MEASURED)
    for phase, real in seconds.items():
        assert found[phase] == pytest.approx(real, rel=0.2), phase
    measured = json.loads((ROOT / "analysis/results/update-h200.json").read_text())["arms"]
    phases = next(entry["even"] for entry in measured if entry["name"] == arm)
    assert list(seconds.values()) == [phases[phase]["s"] for phase in ("old_log_prob", "ref", "update")]


def test_shapes_are_known_and_read_from_a_folder(tmp_path: Path) -> None:
    assert QWEN is not None
    assert QWEN.parameters == pytest.approx(3.09e9, rel=0.002)
    assert QWEN.kv_bytes == 36_864
    read = {
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
    }
    (tmp_path / "config.json").write_text(json.dumps(read))
    shape = find_shape(str(tmp_path))
    assert shape == Shape(576, 30, 9, 3, 64, 1536, 49152, True, 8192)
    assert shape.parameters == pytest.approx(134.5e6, rel=0.005)
    assert find_shape("nobody/nothing") is None


@pytest.mark.parametrize("name", ["fast", "fast-tailed", "hybrid-2-shared", "hybrid-2-shared-tailed", "reference"])
def test_a_step_on_two_gpus_takes_about_what_was_measured(name: str) -> None:
    measured = json.loads((ROOT / "analysis/results/two-gpus-h200.json").read_text())["arms"]
    arm = next(entry for entry in measured if entry["name"] == name)
    words = [word for word in arm["overrides"] if "models/random-" not in word]
    means = [arm["metrics"][key] for key in ("prompt_length/mean", "guideline/tokens", "solution/tokens")]
    lengths = Lengths(*map(round, [*means, arm["longest_guideline"], arm["longest_solution"]]))
    seconds = estimated_step(compose(arm["experiment"], words, environ={}), gpus()["H200"], lengths, MEASURED)
    assert seconds["step"] == pytest.approx(arm["s_per_step"], rel=0.22)


@pytest.fixture(scope="module")
def in_turns() -> DictConfig:
    return compose("numinamath30k-3b-300steps-mathverify-fast", ["layout=hybrid-2-shared"], environ={})


@given(guideline=st.integers(1, 3072), solution=st.integers(1, 3072))
def test_a_longer_longest_text_never_makes_a_step_shorter(in_turns: DictConfig, guideline: int, solution: int) -> None:
    seconds = [
        estimated_step(in_turns, gpus()["H200"], lengths, MEASURED)["gen"]
        for lengths in (
            Lengths(100, 600, 600),
            Lengths(100, 600, 600, guideline, solution),
            Lengths(100, 600, 600, guideline + 100, solution + 100),
        )
    ]
    assert seconds == sorted(seconds)


def test_no_estimate_is_under_the_floor(reference: DictConfig) -> None:
    for gpu in gpus().values():
        found, floor = (estimated_step(reference, gpu, LENGTHS, efficiency) for efficiency in (MEASURED, PEAK))
        assert all(found[phase] > floor[phase] for phase in found), gpu.name


def test_padding_costs_and_a_fitting_mini_batch_does_not(reference: DictConfig) -> None:
    fast = changed(reference, {"actor_rollout_ref.actor.ppo_mini_batch_size": 30})
    assert (padded_sequences(reference), padded_sequences(fast)) == ((120, 192), (120, 120))
    gpu = gpus()["H200"]
    padded, fitting = (estimated_step(config, gpu, LENGTHS, MEASURED) for config in (reference, fast))
    assert padded["ref"] > 1.2 * fitting["ref"]
    assert padded["gen"] == fitting["gen"]


def test_a_faster_gpu_makes_the_parts_faster_that_use_it(reference: DictConfig) -> None:
    h100 = gpus()["H100"]
    base = estimated_step(reference, h100, LENGTHS, MEASURED)
    flops = estimated_step(reference, dataclasses.replace(h100, flops=2 * h100.flops), LENGTHS, MEASURED)
    assert flops["update_actor"] == pytest.approx(base["update_actor"] / 2)
    wide = estimated_step(reference, dataclasses.replace(h100, bandwidth=2 * h100.bandwidth), LENGTHS, MEASURED)
    assert wide["update_actor"] == base["update_actor"]
    assert wide["gen"] < 0.75 * base["gen"]


def test_a_solver_that_is_asked_one_by_one_takes_the_time_of_so_many_solutions(reference: DictConfig) -> None:
    one_by_one = changed(reference, {"guidelines.solver.max_concurrency": 1})
    gpu = gpus()["H200"]
    together, alone = (estimated_step(config, gpu, LENGTHS, MEASURED)["gen"] for config in (reference, one_by_one))
    # 120 solutions of 600 tokens at the 325 tokens a second that one request alone got
    assert alone - together == pytest.approx(120 * 600 / 325, rel=0.08)


def test_fewer_requests_than_reward_workers_are_estimated_as_one_for_each(reference: DictConfig) -> None:
    few, one_each = (
        changed(reference, {"guidelines.solver.max_concurrency": count, "reward.num_workers": 8}) for count in (4, 8)
    )
    assert forecast(few, gpus()["H100"]) == forecast(one_each, gpus()["H100"])


def test_an_engine_of_several_gpus_computes_with_all_and_reads_weights_with_its_tensor_parallel_ones(
    reference: DictConfig,
) -> None:
    def decoding(weights: float, **sizes: int) -> float:
        pool = "reward.reward_model"
        engine = {f"{pool}.rollout.{name}_model_parallel_size": size for name, size in sizes.items()}
        # All requests in flight, so that one engine needs no more waves than two.
        config = changed(reference, {f"{pool}.n_gpus_per_node": 2, f"{pool}.rollout.max_num_seqs": 240, **engine})
        efficiency = dataclasses.replace(MEASURED, weights=weights, host=0, request=0)
        assert QWEN is not None
        return generation(config, QWEN, QWEN, gpus()["H200"], LENGTHS, efficiency, 120, 1)[1]

    two_engines = decoding(math.inf)
    for sizes in ({"tensor": 2}, {"pipeline": 2}):
        assert decoding(math.inf, **sizes) == pytest.approx(two_engines), sizes
    reads = {name: decoding(0.42, **sizes) - two_engines for name, sizes in
             {"two": {}, "tensor": {"tensor": 2}, "pipeline": {"pipeline": 2}}.items()}  # fmt: skip
    assert reads["pipeline"] == pytest.approx(reads["two"]) == pytest.approx(2 * reads["tensor"])


def test_memory_by_role(reference: DictConfig) -> None:
    assert QWEN is not None
    gib = memory(reference, QWEN, gpus()["H100"])
    # 16 bytes a weight on three GPUs, three copies of 8 x 6144 rows of logits, checkpoints of 36 layers and one whole
    assert gib["training"] == pytest.approx(
        (16 * 3.086e9 / 3 + 6 * 8 * 6144 * 151936 + 10.7e9 + 1.2e9) / 2**30, rel=0.02
    )
    assert gib["rollout"] == pytest.approx(0.4 * 79 + 12 * 3.086e9 / 3 / 2**30, rel=0.01)
    assert gib["solver"] == pytest.approx(0.9 * 79)
    fast = compose("numinamath30k-3b-300steps-mathverify-fast", environ={})
    # The reference policy stays, in bf16.
    assert memory(fast, QWEN, gpus()["H100"])["rollout"] == pytest.approx(
        gib["rollout"] + 2 * 3.086e9 / 3 / 2**30, rel=0.01
    )


@pytest.mark.parametrize("name", ["reference", "packed", "packed-liger-adam"])
def test_memory_is_what_was_measured(name: str) -> None:
    """The measured sequences are shorter than their limits: a padded micro-batch of 8 had 850 tokens a row at most."""
    assert QWEN is not None
    arm = next(arm for arm in read_arms(ROOT / "analysis/arms/update.yaml") if arm.name == name)
    config = compose(arm.experiment, [*arm.overrides, "data.max_prompt_length=250", "data.max_response_length=600"])
    measured = json.loads((ROOT / "analysis/results/update-h200.json").read_text())["arms"]
    peak = next(entry["even"]["update"]["peak_gib"] for entry in measured if entry["name"] == name)
    assert memory(config, QWEN, gpus()["H200"])["training"] == pytest.approx(peak, rel=0.03)


def test_adapters_alone_are_trained_and_saved_with_lora() -> None:
    planner = find_shape("Qwen/Qwen2.5-Coder-1.5B-Instruct")
    assert planner is not None
    # Rank 32 on q, k, v, o, gate, up and down of 28 layers, as PEFT counts them.
    assert planner.adapter_parameters(32) == 36_929_536
    full, lora = (compose(name, environ={}) for name in ("gsm8k-1.5b", "gsm8k-1.5b-lora"))
    assert checkpoint_bytes(lora, planner) == 12 * 36_929_536
    assert checkpoint_bytes(full, planner) == 12 * planner.parameters
    h100 = gpus()["H100"]
    # A frozen weight, its copy while adapters are merged, and the merged one: 4 bytes each; 16 an adapter's.
    needed = (12 * planner.parameters + 16 * 36_929_536) / 2**30
    assert memory(lora, planner, h100)["training"] == pytest.approx(needed, rel=0.01)
    assert needed < memory(full, planner, h100)["training"]
    lengths = Lengths(100, 100, 100)
    for efficiency, ratio in ((PEAK, 2 / 3), (MEASURED, 3.6 / 2.7)):
        seconds = [estimated_step(config, h100, lengths, efficiency)["update_actor"] for config in (full, lora)]
        assert seconds[1] == pytest.approx(ratio * seconds[0], rel=0.01)


def test_checkpoints_and_tokens_of_the_whole_run(reference: DictConfig) -> None:
    assert QWEN is not None
    assert checkpoints(reference) == 12
    assert 12 * checkpoint_bytes(reference, QWEN) == pytest.approx(444e9, rel=0.01)
    assert tokens_per_step(reference, LENGTHS) == 120 * 1365
    gpu = gpus()["H100"]
    run = run_seconds(reference, QWEN, QWEN, gpu, LENGTHS, MEASURED)
    assert run["steps"] == pytest.approx(300 * estimated_step(reference, gpu, LENGTHS, MEASURED)["step"])


def test_the_command_prints_the_estimate_and_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--name", "numinamath30k-3b-300steps", "--gpu", "A100", "--memory", "40"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in ("4 x A100 with memory 40", "12 checkpoints of 37 GB: 444 GB", "for 56.3 s (+"):
        assert words in printed, words


@pytest.mark.parametrize(
    ("name", "expected"), [("quickstart", "trainer.device=cpu"), ("nothing", "no experiment is called 'nothing'")]
)
def test_the_command_refuses(name: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--name", name]) == 2
    assert expected in capsys.readouterr().err


def test_several_solutions_cost_their_tokens_and_no_second_reading() -> None:
    once = compose("gsm8k-1.5b", ["guidelines.solver.samples=1"], environ={})
    four = compose("gsm8k-1.5b", ["guidelines.solver.samples=4"], environ={})
    lengths, unread = Lengths(165, 100, 320), Lengths(1, 1, 320)
    tokens = [tokens_per_step(config, lengths) for config in (once, four)]
    assert tokens[1] - tokens[0] == 3 * 32 * 8 * 320
    seconds = [estimated_step(config, gpus()["H100"], unread, PEAK)["gen"] for config in (once, four)]
    assert seconds[0] < seconds[1] < 4 * seconds[0], "the weights are read once for all sequences"
    long_prompt = [estimated_step(config, gpus()["H100"], lengths, PEAK)["gen"] for config in (once, four)]
    assert long_prompt[1] < 4 * long_prompt[0]
    assert "1024 solutions a step (4 to each guideline)" in placements(four)[0].work


def test_the_forecast_has_the_estimates_hours_and_their_price(reference: DictConfig) -> None:
    assert QWEN is not None
    priced = changed(reference, {"guidelines.cost.gpu_hour": 2.0})
    hours = sum(run_seconds(reference, QWEN, QWEN, gpus()["H100"], LENGTHS, MEASURED).values()) / 3600
    assert f"about {hours:,.1f} h on 4 x H100, {4 * hours:,.1f} GPU-hours" in forecast(reference, gpus()["H100"])
    assert "guidelines.cost.gpu_hour=PRICE" in forecast(reference, gpus()["H100"])
    assert f"(${8 * hours:,.2f})" in forecast(priced, gpus()["H100"])


def test_a_run_on_a_cpu_and_one_of_an_unknown_model_have_no_estimate(reference: DictConfig) -> None:
    assert "no GPU-hours" in forecast(changed(reference, {"trainer.device": "cpu"}), gpus()["H100"])
    unknown = changed(reference, {"guidelines.solver.model": "some/model"})
    assert "guidelines.solver.model=some/model: its shape is not known" in forecast(unknown, gpus()["H100"])


@pytest.mark.parametrize("warm_up", [0, 1])
def test_a_trainer_on_its_own_gpu_hides_the_shorter_of_rollout_and_training_unless_it_is_strict(warm_up: int) -> None:
    words = ["layout=split-1p1-shared", f"trainer.v1.separate_async.num_warmup_batches={warm_up}"]
    config = compose("numinamath30k-3b-300steps-mathverify-fast", words, environ={})
    found = estimated_step(config, gpus()["H200"], LENGTHS, MEASURED)
    whole = found.pop("step") - MEASURED.other
    training = sum(seconds for phase, seconds in found.items() if phase != "gen")
    assert whole == pytest.approx(max(found["gen"], training) if warm_up else found["gen"] + training)


def test_a_solver_elsewhere_takes_no_gpu_no_memory_and_no_seconds_of_the_estimate() -> None:
    name, elsewhere = "numinamath30k-3b-300steps", ["guidelines.solver.url=http://host:8000/v1"]
    config = compose(name, ["layout=train-only-4", *elsewhere, "guidelines.solver.model=nobody/knows"], environ={})
    own = compose(name, ["layout=hybrid-3p1"], environ={})
    planner, solver = shapes_of(config)
    assert solver is None
    h100 = gpus()["H100"]
    assert set(memory(config, planner, h100)) == {"training", "rollout"}
    assert host_memory(config, planner, None)["solver"] == 0
    found, with_own = (estimated_step(each, h100, LENGTHS, MEASURED) for each in (config, own))
    assert found["gen"] < with_own["gen"]
    line = forecast(config, h100)
    hours = sum(run_seconds(config, planner, None, h100, typical_lengths(config), MEASURED).values()) / 3600
    assert f"about {hours:,.1f} h (and what the solver elsewhere takes) on 4 x H100, {4 * hours:,.1f} GPU-hours" in line
    console = Console(width=200, file=io.StringIO(), record=True)
    report(config, h100, console)
    assert "a solver that runs elsewhere are not in it" in " ".join(console.export_text().split())


@pytest.mark.parametrize(("solution", "hidden"), [(600, 1.0), (10, 0.1)])
def test_a_reference_policy_beside_the_solver_takes_the_time_that_is_longer_than_the_solvers(
    solution: int, hidden: float
) -> None:
    lengths = Lengths(165, 600, solution)
    seconds = []
    for beside in (False, True):
        words = ["layout=1p1", f"guidelines.reference_beside_solver={beside}"]
        config = compose("numinamath30k-3b-300steps-mathverify-fast", words, environ={})
        seconds.append(estimated_step(config, gpus()["H200"], lengths, MEASURED))
    assert seconds[0]["gen"] == seconds[1]["gen"]
    assert seconds[1]["ref"] <= (1 - hidden) * seconds[0]["ref"]
    assert seconds[1]["step"] == pytest.approx(seconds[0]["step"] - seconds[0]["ref"] + seconds[1]["ref"])
    assert (seconds[1]["ref"] == 0) == (hidden == 1)
