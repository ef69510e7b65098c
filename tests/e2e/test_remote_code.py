"""That a model's own code is not run, shown with a tokenizer that leaves a file behind when it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from guidelines_core.paths import MODELS
from guidelines_core.verl_adapter import reward_loop as solver_servers

pytestmark = pytest.mark.e2e


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Copy the tiny model's tokenizer and give it code of its own."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in (MODELS / "tiny-random").glob("*.json*"):
        shutil.copy(file, folder)
    (folder / "own.py").write_text(
        f"open({str(tmp_path / 'was here')!r}, 'w')\n"
        "from transformers import PreTrainedTokenizerFast\n"
        "class Own(PreTrainedTokenizerFast):\n    pass\n"
    )
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.update(tokenizer_class="Own", auto_map={"AutoTokenizer": [None, "own.Own"]})
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_a_reward_worker_runs_no_code_of_a_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(solver_servers, "load_reward_manager", lambda *_, **__: None)
    config = OmegaConf.create(
        {
            "actor_rollout_ref": {"model": {"path": str(model), "tokenizer_path": None}},
            "reward": {"reward_model": {"enable": False}},
        }
    )
    try:
        solver_servers.RewardWorker(config, None)
    except ValueError as error:
        assert "trust_remote_code" in str(error)  # noqa: PT017, refusing is as good as loading without the code
    assert not (tmp_path / "was here").exists()
