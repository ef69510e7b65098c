"""A trained checkpoint as a Hugging Face folder, loaded by those who will load it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from transformers import AutoModelForCausalLM, AutoTokenizer

from guidelines_core.paths import ROOT
from tests.e2e.conftest import Started
from tests.support.tiny_run import STEPS, Run
from tests.support.warm_python import engine_python

pytestmark = pytest.mark.e2e

PROMPT = "Is 7 odd? Say 1 for yes, 0 for no."
GENERATE = """
import json, sys
from vllm import LLM, SamplingParams
model = LLM(sys.argv[1], dtype="float32", enforce_eager=True, max_model_len=128, kv_cache_memory_bytes=67108864)
output = model.generate([sys.argv[2]], SamplingParams(temperature=0, max_tokens=8))[0].outputs[0]
print("TOKENS", json.dumps(list(output.token_ids)))
"""


@pytest.fixture(scope="module")
def exported(unbroken: Started, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    words = [str(unbroken.directory), "--checkpoint", "last", "--out", str(folder), "--register"]
    done = export(unbroken, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"step {STEPS} " in done.stdout
    return folder


def export(run: Run, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [engine_python(), "-m", "guidelines_core.models.export", *words],
        cwd=ROOT,
        env={**os.environ, "MLFLOW_TRACKING_URI": run.uri},
        capture_output=True,
        text=True,
    )


def test_transformers_computes_what_the_checkpoints_weights_say(unbroken: Started, exported: Path) -> None:
    shard = unbroken.directory / f"global_step_{STEPS}/actor/model_world_size_1_rank_0.pt"
    trained = {
        name: getattr(tensor, "to_local", lambda tensor=tensor: tensor)()
        for name, tensor in torch.load(shard, weights_only=False).items()
    }
    model = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32)
    reference = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32)
    # The merger writes bfloat16.
    rounded = {name: tensor.bfloat16().float() for name, tensor in trained.items()}
    missing = reference.load_state_dict(rounded, strict=False).missing_keys
    assert set(missing) <= {"lm_head.weight"}
    ids = AutoTokenizer.from_pretrained(exported)(PROMPT, return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, reference.eval()(ids).logits, rtol=1e-4, atol=1e-4)
        start = AutoModelForCausalLM.from_pretrained(ROOT / "models/tiny-random", dtype=torch.float32)
        assert (model(ids).logits - start(ids).logits).abs().max() > 1e-2, "it was trained"


def test_vllm_writes_what_transformers_writes(exported: Path) -> None:
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    environment |= {"OMP_NUM_THREADS": "1", "TORCH_COMPILE_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    command = [engine_python(), "-c", GENERATE, str(exported), PROMPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("TOKENS ")]
    model = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(exported)(PROMPT, return_tensors="pt").input_ids
    expected = model.generate(ids, do_sample=False, max_new_tokens=8)[0, ids.shape[1] :].tolist()
    written: list[int] = json.loads(line.removeprefix("TOKENS "))
    assert written == expected[: len(written)]
    assert written


def test_the_exported_step_is_a_version_of_an_mlflow_model(unbroken: Started, exported: Path) -> None:
    (version,) = MlflowClient(unbroken.uri).search_model_versions("name = 'quickstart'")
    assert version.run_id == unbroken.stored.info.run_id
    assert version.tags["step"] == str(STEPS)
    names = {path.path for path in MlflowClient(unbroken.uri).list_artifacts(version.run_id, f"model/step-{STEPS}")}
    assert f"model/step-{STEPS}/config.json" in names


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{directory}", "--checkpoint", "3"], "--checkpoint=3: expected one of 2, 4, last, best"),
        (["no-such-run"], "run 'no-such-run': no run has this name or id"),
    ],
)
def test_what_is_not_there_is_refused(unbroken: Started, tmp_path: Path, words: list[str], said: str) -> None:
    words = [word.format(directory=unbroken.directory) for word in words]
    done = export(unbroken, *words, "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "out").exists()
