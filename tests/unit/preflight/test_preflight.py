"""Whatever would fail or waste later is found before, with its key and what to do."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from guidelines_core.config import layout
from guidelines_core.config.compose import ConfigError, compose, experiments
from guidelines_core.hardware.gpus import Device, known_gpu, named_machine, parse_devices, visible
from guidelines_core.hardware.shapes import find_shape
from guidelines_core.paths import ROOT
from guidelines_core.preflight import config_findings, inside, machine
from guidelines_core.preflight.files import file_findings
from guidelines_core.preflight.findings import Finding
from guidelines_core.preflight.gpus import memory_findings, missing_gpus
from guidelines_core.preflight.inside import _hub_findings, prompt_findings, reward_findings, store_findings
from guidelines_core.preflight.machine import (
    cluster_findings,
    environment_findings,
    installed_set,
    machine_findings,
    main_memory_findings,
    set_finding,
)
from guidelines_core.preflight.probe import Probe

REFERENCE = "numinamath30k-3b-300steps"
FAST = "numinamath30k-3b-300steps-mathverify-fast"
A, R, S = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "reward.reward_model"


@lru_cache
def composed(name: str, *overrides: str) -> DictConfig:
    return compose(name, overrides, environ={})


def changed(name: str, *changes: str) -> DictConfig:
    """Return a copy of an experiment with other values; a layout is composed, so that all its keys are there."""
    layouts = [change for change in changes if change.startswith("layout=")]
    config = composed(name, *layouts).copy()
    OmegaConf.set_struct(config, False)
    OmegaConf.set_readonly(config, False)
    config.merge_with(OmegaConf.from_dotlist([change for change in changes if change not in layouts]))
    return config


def errors(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.severity == "error"]


@pytest.mark.parametrize("name", sorted(experiments()))
def test_no_experiment_has_an_error_of_its_own(name: str) -> None:
    assert errors(config_findings(composed(name))) == []


BESIDE = "guidelines.reference_beside_solver"
BROKEN = [
    (["data.train_batch_size=20"], f"{A}.ppo_mini_batch_size", "give 20 or a part of it"),
    (["data.train_batch_size=31"], "data.train_batch_size", "give a multiple of 3"),
    ([f"{A}.ppo_micro_batch_size_per_gpu=7"], f"{A}.ppo_micro_batch_size_per_gpu", "give 8 or 4 or 2"),
    ([f"{A}.ppo_micro_batch_size_per_gpu=null"], f"{A}.ppo_micro_batch_size_per_gpu", "give 8 or 4 or 2"),
    ([f"{R}.log_prob_micro_batch_size_per_gpu=24"], f"{R}.log_prob_micro_batch_size_per_gpu", "give 16 or 32"),
    (["actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=5"],
     "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu", "give 4 or 2 or 8"),
    ([f"{A}.use_dynamic_bsz=true", f"{A}.ppo_max_token_len_per_gpu=4096"],
     f"{A}.ppo_max_token_len_per_gpu", "give 6144 or more"),
    ([f"{A}.optim.lr=0"], f"{A}.optim.lr", "give 1e-6"),
    ([f"{R}.n=1"], f"{R}.n", "give 2 or more"),
    ([f"{R}.temperature=0"], f"{R}.temperature", "such as 1.0"),
    ([f"{R}.name=sglang"], f"{R}.name", "give vllm"),
    ([f"{R}.max_model_len=4096"], f"{R}.max_model_len", "give 6144"),
    ([f"{R}.max_model_len=null"], f"{R}.max_model_len", "give 6144"),
    ([f"{R}.max_model_len=40000"], f"{R}.max_model_len", "lower data.max_prompt_length"),
    (["guidelines.planner.val_max_tokens=4000"], f"{R}.max_model_len", "give 7072"),
    (["guidelines.planner.val_max_tokens=40000", f"{R}.max_model_len=43072"], f"{R}.max_model_len",
     "lower data.max_prompt_length, guidelines.planner.val_max_tokens"),
    ([f"{R}.max_num_batched_tokens=2048"], f"{R}.max_num_batched_tokens", f"{R}.enable_chunked_prefill=True"),
    ([f"{R}.gpu_memory_utilization=40"], f"{R}.gpu_memory_utilization", "between 0 and 1"),
    ([f"{R}.tensor_model_parallel_size=2"], f"{R}.tensor_model_parallel_size", "give 1"),
    ([f"{S}.rollout.tensor_model_parallel_size=2"], f"{S}.rollout.tensor_model_parallel_size", "give 1"),
    ([f"{S}.rollout.max_model_len=8192"], f"{S}.rollout.max_model_len", "give 9216"),
    ([f"{S}.n_gpus_per_node=0"], f"{S}.n_gpus_per_node", "give 1"),
    ([f"{S}.enable=false"], "guidelines.solver.url", "take a layout with a solver"),
    ([f"{S}.enable_resource_pool=false"], f"{S}.rollout.free_cache_engine", "give True"),
    (["trainer.total_training_steps=20000"], "trainer.total_epochs", "raise it or guidelines.data.size"),
    (["trainer.logger=[console]"], "trainer.logger", "give [console,file]"),
    (["trainer.use_v1=false"], "trainer.use_v1", "leave it True"),
    (["trainer.v1.trainer_mode=fast"], "trainer.v1.trainer_mode", "give one of sync"),
    (["trainer.resume_mode=disable"], "trainer.resume_mode", "leave it auto"),
    (["actor_rollout_ref.hybrid_engine=false"], "actor_rollout_ref.hybrid_engine", "layout=split-1p2p1"),
    (["layout=split-1p2p1"], f"{A}.ppo_mini_batch_size", "give 30"),
    (["layout=split-1p2p1", "trainer.v1.separate_async.parameter_sync_step=4"], f"{A}.ppo_mini_batch_size",
     "give 8, and data.train_batch_size=32"),
    (["layout=split-1p2p1", f"{A}.ppo_mini_batch_size=30"], f"{A}.ppo_micro_batch_size_per_gpu", "give 6 or 10"),
    (["layout=split-1p2p1", f"{R}.checkpoint_engine.backend=naive"], f"{R}.checkpoint_engine.backend", "give nccl"),
    (["layout=split-1p2p1", f"{R}.nnodes=0"], f"{R}.nnodes", "give 1"),
    (["layout=split-1p1-shared", f"{R}.n_gpus_per_node=2"], f"{R}.n_gpus_per_node", "n_gpus_per_node=1"),
    (["layout=split-1p1-shared", "actor_rollout_ref.hybrid_engine=true"], "actor_rollout_ref.hybrid_engine",
     "give False"),
    (["layout=split-1p2p1", "actor_rollout_ref.hybrid_engine=true"], "actor_rollout_ref.hybrid_engine", "give False"),
    (["layout=split-1p1-shared", f"{R}.nnodes=2"], f"{R}.nnodes", "nnodes=1"),
    ([f"{R}.data_parallel_size=2"], f"{R}.data_parallel_size", "give 1"),
    ([f"{R}.tensor_model_parallel_size=0"], f"{R}.tensor_model_parallel_size", "give 1"),
    ([f"{S}.rollout.pipeline_model_parallel_size=2"], f"{S}.rollout.pipeline_model_parallel_size", "give 1"),
    ([f"{R}.n_gpus_per_node=1", f"{R}.tensor_model_parallel_size=3"], f"{R}.n_gpus_per_node", "leave it out"),
    ([f"{R}.disaggregation.enabled=true"], f"{R}.disaggregation.enabled", "leave it False"),
    (["distillation.enabled=true"], "distillation.enabled", "leave it False"),
    (["layout=split-1p1-shared", f"{R}.gpu_memory_utilization=0.6"], f"{R}.gpu_memory_utilization", "give 0.45"),
    (["guidelines.reference_beside_solver=true"], BESIDE, "ppo_mini_batch_size=30"),
    (["guidelines.reference_beside_solver=true", "layout=colocated-1"], BESIDE, "layout=1p1"),
    (["guidelines.reference_beside_solver=true", "layout=split-1p2p1"], BESIDE, "layout=1p1 or hybrid-3p1"),
    (["guidelines.reference_beside_solver=true", "algorithm.use_kl_in_reward=false", f"{A}.use_kl_loss=false"], BESIDE,
     "leave it out"),
    (["guidelines.rollout_beside_solver=true"], "guidelines.rollout_beside_solver", "layout=split-1p1-shared"),
    (["actor_rollout_ref.model.lora_rank=8"], "actor_rollout_ref.model.lora.merge", "give True"),
    (["actor_rollout_ref.model.lora_rank=2049", "actor_rollout_ref.model.lora.merge=true"],
     "actor_rollout_ref.model.lora_rank", "such as 32"),
    # Four billion sequences: the sizes that divide them are computed and not tried one by one.
    (["data.train_batch_size=1200000000", f"{R}.log_prob_micro_batch_size_per_gpu=11"],
     f"{R}.log_prob_micro_batch_size_per_gpu", "give 10 or 8 or 16"),
    (["actor_rollout_ref.model.lora.rank=8"], "actor_rollout_ref.model.lora.rank", "model.lora_rank"),
    (["actor_rollout_ref.model.lora_adapter_path=/a"], "actor_rollout_ref.model.lora_adapter_path", "merge it"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "key", "remedy"), BROKEN, ids=[" ".join(case[0]) for case in BROKEN])
def test_a_broken_configuration_is_refused_with_key_and_remedy(changes: list[str], key: str, remedy: str) -> None:
    found = [finding for finding in errors(config_findings(changed(REFERENCE, *changes))) if finding.key == key]
    assert found, config_findings(changed(REFERENCE, *changes))
    assert remedy in found[0].remedy
    assert f"{key}=" in str(found[0])


WASTEFUL = [
    ([], f"{A}.ppo_mini_batch_size", "120 rollouts are padded to 192 by 72 dummies"),
    ([], f"{A}.ppo_mini_batch_size", "the last of 2 optimizer steps sees 24 rollouts"),
    ([f"{S}.rollout.enforce_eager=true"], f"{S}.rollout.enforce_eager", "slower"),
    ([f"{S}.rollout.gpu_memory_utilization=0.5"], f"{S}.rollout.gpu_memory_utilization", "leaves half of it unused"),
    (["layout=colocated-1"], f"{S}.enable_resource_pool", "after the last guideline of the step"),
    (["trainer.save_freq=-1"], "trainer.save_freq", "no checkpoint"),
    (
        ["actor_rollout_ref.model.lora_rank=8", f"{A}.checkpoint.save_lora_only=false"],
        f"{A}.checkpoint.save_lora_only",
        "all frozen weights",
    ),
]


@pytest.mark.parametrize(("changes", "key", "reason"), WASTEFUL)
def test_what_wastes_is_said(changes: list[str], key: str, reason: str) -> None:
    found = config_findings(changed(REFERENCE, *changes))
    assert any(f.severity == "warning" and f.key == key and reason in f.reason for f in found), found


def test_the_fast_sibling_has_nothing_to_say() -> None:
    assert config_findings(composed(FAST)) == []


ROWS = [
    "0, GPU-aaaa, NVIDIA H100 80GB HBM3, 81559, 81000",
    "1, GPU-bbbb, NVIDIA H100 80GB HBM3, 81559, 40000",
    "2, GPU-cccc, NVIDIA H100 80GB HBM3, 81559, 81000",
    "3, GPU-dddd, NVIDIA H100 80GB HBM3, 81559, 81000",
]
APPS = ["GPU-bbbb, 4711, python, train.py"]


def test_devices_are_read_and_chosen() -> None:
    found = parse_devices(ROWS, APPS)
    assert found[1] == Device(1, "GPU-bbbb", "NVIDIA H100 80GB HBM3", 81559, 40000, ("4711 python, train.py",))
    assert [d.index for d in visible(found, "2,GPU-a")] == [2, 0]
    assert [d.index for d in visible(found, "3,9,1")] == [3]
    assert visible(found, "") == []
    assert [d.index for d in visible(found, None)] == [0, 1, 2, 3]
    assert known_gpu(found).flops == known_gpu([]).flops
    assert known_gpu(found).memory == pytest.approx(79.6, abs=0.1)


def test_missing_gpus_are_an_error_with_the_layouts_that_need_fewer() -> None:
    config, found = composed(REFERENCE), parse_devices(ROWS, APPS)
    assert missing_gpus(config, found) is None
    finding = missing_gpus(config, found[:3])
    assert finding is not None
    assert (finding.severity, finding.key, finding.value) == ("error", "GPUs", 3)
    assert "4 are needed (0-2 rollout + training, 3 solver)" in finding.reason
    assert "layout=1p1" in finding.remedy


def test_more_nodes_need_a_cluster() -> None:
    local = ["layout=hybrid-3p1-x2", "ray_kwargs.ray_init.address=local"]
    (finding,) = cluster_findings(composed(REFERENCE, *local), 2)
    assert (finding.severity, finding.key) == ("error", "ray_kwargs.ray_init.address")
    assert "give auto or HOST:PORT" in finding.remedy
    both = cluster_findings(composed(REFERENCE, *local, "guidelines.fork_processes=True"), 2)
    assert [found.key for found in both] == ["ray_kwargs.ray_init.address", "guidelines.fork_processes"]


def test_the_documented_division_of_64_gpus_needs_the_cluster_alone() -> None:
    documented = (ROOT / "docs/cluster.md").read_text()
    (command,) = re.findall(r"--name (\S+) (layout=hybrid-4-shared \\\n.*?)\n```", documented, re.DOTALL)
    config = compose(command[0], command[1].replace("\\\n", " ").split(), environ={})
    assert layout.gpus_needed(config) == 64
    assert errors([*config_findings(config), *cluster_findings(config, 64)]) == []


def test_others_on_the_gpus_and_roles_that_do_not_fit_are_found() -> None:
    shape = find_shape("Qwen/Qwen2.5-3B-Instruct")
    found = list(memory_findings(composed(REFERENCE), shape, parse_devices(ROWS, APPS)))
    assert [(f.severity, f.key) for f in found] == [("error", "GPU 1")]
    assert "by 4711 python, train.py" in found[0].reason
    free = parse_devices(ROWS, [])[:1]
    on_one = changed(REFERENCE, "layout=1p1")
    (crowded,) = list(memory_findings(on_one, shape, free))
    assert (crowded.severity, crowded.key) == ("warning", f"{A}.ppo_micro_batch_size_per_gpu")
    greedy = changed(REFERENCE, f"{R}.gpu_memory_utilization=0.9")
    (greedy_finding,) = list(memory_findings(greedy, shape, free))
    assert (greedy_finding.severity, greedy_finding.key) == ("error", f"{R}.gpu_memory_utilization")


def test_main_memory_that_is_too_small_is_found() -> None:
    shape = find_shape("Qwen/Qwen2.5-3B-Instruct")
    config = changed(REFERENCE, "layout=colocated-1")
    # 36 layers of 308 MB and 1.2 GB of embeddings, in pieces of 512 MiB and 2 GiB: five such copies, and the solver's.
    (finding,) = main_memory_findings(config, shape, shape, 126 * 2**30)
    assert (finding.severity, finding.key, finding.value) == ("warning", "memory", "126 GiB")
    assert (
        "keeps 120 GiB in main memory (actor 20, optimizer 40, reference 40, solver 9, processes 11)" in finding.reason
    )
    assert list(main_memory_findings(config, shape, shape, 256 * 2**30)) == []
    fast = changed(FAST, "layout=colocated-1")
    assert list(main_memory_findings(fast, shape, shape, 126 * 2**30)) == []
    (small,) = main_memory_findings(fast, shape, shape, 64 * 2**30)
    assert "reference" not in small.reason.split("(")[1].split(")")[0]
    apart = changed(REFERENCE, "layout=1p1")
    (crowded,) = main_memory_findings(apart, shape, shape, 32 * 2**30)
    assert "(reference 40, processes 11)" in crowded.reason


@pytest.mark.parametrize(("experiment", "needed"), [("quickstart", 8), ("gsm8k-1.5b", 5)])
def test_a_cluster_of_its_own_with_too_few_cpus_or_gpus_is_refused(experiment: str, needed: int) -> None:
    assert list(cluster_findings(composed(experiment), 2)) == []
    key = "ray_kwargs.ray_init.num_cpus"
    assert list(cluster_findings(composed(experiment, f"{key}={needed}"), 2)) == []
    (found,) = cluster_findings(composed(experiment, f"{key}={needed - 1}"), 64)
    assert str(found) == (
        f"error: {key}={needed - 1}: the run's actors reserve {needed}; give {needed} or more; "
        "Ray uses it only for counting"
    )
    (found,) = cluster_findings(composed(experiment, f"{key}=null"), 2)
    assert f"this machine has 2, and the run's actors reserve {needed}" in str(found)
    (found,) = cluster_findings(composed("quickstart", "ray_kwargs.ray_init.num_gpus=1"), 2)
    assert str(found).startswith("error: ray_kwargs.ray_init.num_gpus=1: the run's actors reserve 2; give 2")


def test_checkpoints_that_do_not_fit_on_the_disk_are_found(tmp_path: Path) -> None:
    shape = find_shape("Qwen/Qwen2.5-3B-Instruct")
    endless = changed(REFERENCE, "trainer.save_freq=1", "trainer.total_training_steps=1000000000",
                      f"trainer.default_local_dir={tmp_path / 'run'}")  # fmt: skip
    key = "guidelines.checkpoints.keep_last"
    (finding,) = [f for f in machine_findings(endless, shape, resume=False) if f.key == key]
    assert finding.severity == "error"
    assert "1000000000 checkpoints of 37.0 GB" in finding.reason
    assert "guidelines.checkpoints.keep_last=1 takes 111 GB" in finding.remedy
    for step in range(3):
        (tmp_path / "run" / f"global_step_{step + 1}").mkdir(parents=True)
    kept = changed(REFERENCE, f"{key}=1", f"trainer.default_local_dir={tmp_path / 'run'}")
    assert [f for f in machine_findings(kept, shape, resume=True) if f.key == key] == []


def test_attention_that_is_not_installed_is_found() -> None:
    key = "actor_rollout_ref.model.override_config.attn_implementation"
    config = changed(REFERENCE, f"{key}=flash_attention_2")
    (finding,) = [f for f in machine_findings(config, None, resume=False) if f.key == key]
    assert finding.severity == "error"
    assert "give sdpa" in finding.remedy
    config = changed(REFERENCE, "actor_rollout_ref.model.use_remove_padding=true")
    found = [f for f in machine_findings(config, None, resume=False) if f.key.endswith("use_remove_padding")]
    assert [f.severity for f in found] == ["warning"]


def test_liger_that_is_not_installed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "actor_rollout_ref.model.use_liger"

    def found(name: str) -> list[Finding]:
        return [f for f in machine_findings(composed(name), None, resume=False) if f.key == key]

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (finding,) = found(FAST)
    assert (finding.severity, finding.value) == ("error", True)
    assert "constraints/gpu.txt" in finding.remedy
    assert found(REFERENCE) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert found(FAST) == []


def test_flash_attention_is_looked_for_as_a_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "actor_rollout_ref.model.override_config.attn_implementation"
    config = changed(REFERENCE, f"{key}=flash_attention_2")
    # flash-attn-4 provides the module and not the kernels.
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    (finding,) = [f for f in machine_findings(config, None, resume=False) if f.key == key]
    assert "the package flash-attn is missing" in finding.reason


def test_a_package_that_the_grader_needs_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    there, name = machine._version, {"cpu": "quickstart", "gpu": REFERENCE}[str(installed_set())]
    monkeypatch.setattr(machine, "_version", lambda name: None if name == "pint" else there(name))
    found = [f for f in machine_findings(composed(name), None, resume=False) if f.key == "packages"]
    assert [(f.severity, f.value, f.reason) for f in found] == [("error", "pint 0.24.4", "not installed")]


def test_packages_that_are_not_the_pinned_ones_are_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def packages(name: str) -> list[Finding]:
        return [f for f in machine_findings(composed(name), None, resume=False) if f.key == "packages"]

    there = installed_set()
    assert there is not None, "the tests run in one of the two sets"
    mine = {"cpu": "quickstart", "gpu": REFERENCE}[there]
    assert packages(mine) == []
    monkeypatch.setattr("guidelines_core.preflight.machine.version", lambda name: "0.0.1")
    (finding,) = packages("quickstart")
    assert finding.severity == "warning"
    assert "torch 0.0.1 (pinned 2.13.0)" in str(finding.value)
    assert "constraints/cpu.txt" in finding.remedy


@pytest.mark.parametrize(
    ("device", "there", "remedy"),
    [
        ("cuda", "cpu", "make install-gpu PYTHON=python3.12, or layout=cpu"),
        ("cpu", "gpu", "make install, or layout=1p1"),
        ("cuda", "gpu", None),
        ("cpu", "cpu", None),
        ("cuda", None, None),
    ],
)
def test_a_run_in_the_other_set_of_packages_is_refused(device: str, there: str | None, remedy: str | None) -> None:
    finding = set_finding(device, there)
    assert (finding is None) == (remedy is None)
    if finding is not None:
        assert (finding.severity, finding.key, finding.value) == ("error", "trainer.device", device)
        assert finding.remedy == f"rm -r .venv && {remedy}"


def test_a_machine_can_be_named() -> None:
    found = named_machine("4xH100")
    assert len(found) == 4
    assert known_gpu(found).memory == 79.0
    config = composed(REFERENCE)
    assert missing_gpus(config, found, named=True) is None
    finding = missing_gpus(config, found[:2], named=True)
    assert finding is not None
    assert "2 are there on 2xH100" in finding.reason
    shape = find_shape("Qwen/Qwen2.5-3B-Instruct")
    assert [f for f in memory_findings(config, shape, found) if f.severity == "error"] == []
    for wrong in ("H100", "4xA10", "0xH100", "x", "4 x H100"):
        with pytest.raises(ConfigError, match="expected a number and a GPU, such as 4xH100; known are A100, H100"):
            named_machine(wrong)


def test_environment_that_changes_the_run_is_said() -> None:
    environ = {
        "VLLM_USE_V1": "0",
        "VERL_GUIDELINES_USE_MATH_VERIFY": "1",
        "VLLM_LOGGING_LEVEL": "DEBUG",
        "VLLM_API_KEY": "planted",
        "VLLM_USE_FLASHINFER_SAMPLER": "1",
        "NCCL_DEBUG": "INFO",
        "NCCL_VERSION": "2.28.3-1",
        "HOME": "/root",
    }
    found = {f.key: f.reason for f in environment_findings(composed(REFERENCE), environ)}
    assert set(found) == set(environ) - {"NCCL_VERSION", "HOME"}
    assert "legacy engine" in found["VLLM_USE_V1"]
    assert "overrides it" in found["VLLM_USE_FLASHINFER_SAMPLER"]
    assert "planted" not in " ".join(map(str, environment_findings(composed(REFERENCE), environ)))
    assert list(environment_findings(composed(REFERENCE), {})) == []


def test_model_and_data_that_are_not_there_are_found(tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}")
    config = changed(
        REFERENCE,
        f"actor_rollout_ref.model.path={tmp_path / 'none'}",
        f"guidelines.solver.model={tmp_path / 'half'}",
        "guidelines.data.source=problems.jsonl",
    )
    found = {f.key: f.reason for f in file_findings(config)}
    assert "no config.json" in found["actor_rollout_ref.model.path"]
    assert "no weights" in found["guidelines.solver.model"]
    assert "no such file" in found["guidelines.data.source"]


@pytest.mark.parametrize("source", ["gone.jsonl", "sub/gone.csv", "/gone/problems.jsonl", "/gone/folder"])
def test_a_path_that_is_not_there_is_one_finding_and_not_looked_for_on_the_hub(source: str) -> None:
    config = changed(REFERENCE, f"guidelines.data.source={source}")
    (found,) = (f for f in [*file_findings(config), *_hub_findings(config)] if f.key == "guidelines.data.source")
    assert found.reason in ("no such file", "no such folder")


def test_a_reward_manager_that_cannot_be_imported_is_found(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import no_such_package\n")
    key, function = "reward.reward_manager", "reward.custom_reward_function.path"
    path, missing = f"{key}.module.path", "pkg://guidelines_core.rewards"
    for imports_verl, change, named, reason in (
        (False, f"{path}={tmp_path / 'mine.py'}", path, "No module named 'no_such_package'"),
        (False, f"{path}={missing}", path, "No module named 'guidelines_core.rewards'"),
        (True, f"{path}={missing}", path, "No module named 'guidelines_core.rewards'"),
        (True, f"{key}.name=Mine", f"{key}.name", "no such class"),
        (False, f"{key}.source=register", f"{key}.source", "do not call the solver"),
        (False, f"{function}=mine.py", function, "do not call the solver"),
    ):
        (finding,) = list(reward_findings(changed(REFERENCE, change), imports_verl=imports_verl))
        assert finding.key == named
        assert reason in finding.reason
    assert list(reward_findings(composed(REFERENCE), imports_verl=True)) == []


def test_prompts_that_leave_no_room_are_found() -> None:
    models = ["actor_rollout_ref.model.path", "guidelines.solver.model"]
    here = str(ROOT / "models" / "tiny-random")
    if not Path(here, "config.json").exists():
        from guidelines_core.models.bundled import ensure_model

        ensure_model(Path(here))
    config = changed(REFERENCE, *(f"{key}={here}" for key in models))
    assert list(prompt_findings(config)) == []
    engine = config.reward.reward_model.rollout
    engine.max_model_len = 9000
    (finding,) = list(prompt_findings(config))
    assert finding.key == "reward.reward_model.rollout.max_model_len"
    needed = int(finding.remedy.split()[1])
    for length, count in ((needed, 0), (needed - 1, 1)):
        engine.max_model_len = length
        assert len(list(prompt_findings(config))) == count
    config.data.max_prompt_length = 64
    (finding,) = list(prompt_findings(config))
    assert finding.key == "data.max_prompt_length"
    # A solver elsewhere has no files here.
    config.reward.reward_model.enable, config.guidelines.solver.model = False, "nobody/knows"
    assert list(prompt_findings(config)) == [finding]
    config.data.max_prompt_length, engine.max_model_len = 3072, 1
    assert list(prompt_findings(config)) == []


def test_a_store_that_cannot_be_written_to_is_found(tmp_path: Path) -> None:
    def reasons(uri: str) -> list[str]:
        return [f.reason for f in store_findings(uri, "experiment", dry_run=True)]

    database = tmp_path / "mlflow.db"
    assert reasons(f"sqlite:///{database}") == []
    assert not database.exists()
    assert "the path is relative" in reasons("sqlite:///mlflow.db")[0]
    assert "cannot be written to" in reasons(f"sqlite:///{tmp_path / 'none' / 'mlflow.db'}")[0]
    with sqlite3.connect(database) as other:
        other.execute("CREATE TABLE t (x)")
        other.execute("BEGIN IMMEDIATE")
        assert "it cannot be written to: database is locked" in reasons(f"sqlite:///{database}")[0]
    database.write_text("no database at all")
    assert "not a database" in reasons(f"sqlite:///{database}")[0]
    assert "MLflow cannot use it" in reasons("nonsense://store")[0]


def test_the_probe_runs_in_the_runs_environment_and_its_death_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("import os\nprint(os.environ['SAID'], flush=True)\nos._exit(3)\n")
    config = changed("quickstart", f"reward.reward_manager.module.path={tmp_path / 'mine.py'}")
    config.guidelines.environment = {"SAID": "from the run"}
    monkeypatch.setattr("guidelines_core.preflight.probe.SECONDS", 100.0)
    (finding,) = Probe(config, dry_run=True).findings()
    assert (finding.severity, finding.value) == ("error", "exit code 3")
    assert "a check did not end: from the run" in finding.reason


def test_a_chats_tokens_are_counted_as_transformers_counts_them() -> None:
    from transformers import AutoTokenizer

    from guidelines_core.models.bundled import ensure_model
    from guidelines_core.preflight.inside import _chat_files, chat_tokens
    from guidelines_core.prompts import planner_messages

    model = ROOT / "models" / "tiny-random"
    ensure_model(model)
    files = _chat_files(str(model))
    assert files is not None
    chat = planner_messages("How many?", "few_shot")
    text = AutoTokenizer.from_pretrained(model).apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert chat_tokens(files, chat) == len(AutoTokenizer.from_pretrained(model)(text)["input_ids"])


def test_what_is_missing_offline_is_refused_with_the_command_that_fetches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = composed(REFERENCE, "guidelines.data.source=openai/gsm8k:main", "guidelines.solver.model=nobody/elses")
    found = {finding.key: finding for finding in _hub_findings(config)}
    assert {finding.severity for finding in found.values()} == {"error"}
    assert "hf download Qwen/Qwen2.5-3B-Instruct;" in found["actor_rollout_ref.model.path"].remedy
    assert "hf download nobody/elses;" in found["guidelines.solver.model"].remedy
    problems = found["guidelines.data.source"]
    folder = Path(config.data.train_files).parent
    assert folder.name.startswith("gsm8k-main-")
    command = f"guidelines_core.data.prepare --source openai/gsm8k:main --out {folder} --size 30000 --val-size 500"
    assert command in problems.remedy
    assert "HF_HUB_OFFLINE=1" in problems.reason


def test_a_check_that_crashes_is_an_error_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(config: DictConfig) -> Iterator[Finding]:
        raise KeyError("no such thing")
        yield

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///relative.db")
    monkeypatch.setattr(inside, "reward_findings", lambda config, **_: crash(config))
    found = list(inside.findings(changed("quickstart"), dry_run=False))
    assert [(finding.severity, finding.key) for finding in found] == [
        ("error", "preflight"),
        ("error", "MLFLOW_TRACKING_URI"),
    ]
    assert "KeyError: 'no such thing'" in found[0].reason


@pytest.mark.parametrize(("folder", "odd"), [("/what?", True), ("/a%20b", True), ("/it's #1", False)])
def test_a_repository_whose_path_a_databases_address_cannot_hold_is_refused(
    monkeypatch: pytest.MonkeyPatch, folder: str, odd: bool
) -> None:
    monkeypatch.setattr(inside, "MLFLOW_DATABASE", Path(folder) / "mlflow.db")
    monkeypatch.setattr("os.access", lambda *_: True)
    found = list(store_findings(f"sqlite:///{folder}/mlflow.db", "x", dry_run=True))
    assert ["move the repository" in finding.remedy for finding in found] == [True] * odd


def test_a_webhook_whose_address_is_not_in_the_environment_is_an_error_and_the_address_is_not_said() -> None:
    config = changed("quickstart", "guidelines.alarms.webhook_env=ALARMS_URL")
    (finding,) = errors(list(environment_findings(config, {})))
    assert (finding.key, finding.value) == ("guidelines.alarms.webhook_env", "ALARMS_URL")
    (finding,) = errors(list(environment_findings(config, {"ALARMS_URL": "hooks/T0"})))
    assert "hooks" not in str(finding)
    assert errors(list(environment_findings(config, {"ALARMS_URL": "https://hooks/T0"}))) == []


def test_workers_of_another_ray_cluster_cannot_be_forks() -> None:
    words = ["layout=cpu-2p1-x2", "ray_kwargs.ray_init.address=10.0.0.1:6379"]
    assert list(cluster_findings(composed("tiny", *words), 2)) == []
    (found,) = cluster_findings(composed("tiny", *words, "guidelines.fork_processes=True"), 2)
    assert "guidelines.fork_processes=True: the workers of the Ray cluster at 10.0.0.1:6379 are not forks" in str(found)
