from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from guidelines_core.models import bundled
from guidelines_core.models.bundled import ModelError, ensure_model


def test_the_tiny_model_is_built_once_and_again_when_it_is_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "tiny-random"
    ensure_model(folder)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    built = weights.stat().st_mtime_ns
    ensure_model(folder)
    assert weights.stat().st_mtime_ns == built

    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    ensure_model(folder)
    assert weights.read_bytes() == whole
    assert {path.name for path in tmp_path.iterdir()} <= {"tiny-random", ".tiny-random.lock"}


def test_of_several_that_need_a_model_at_once_one_builds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def build(target: Path) -> None:
        time.sleep(0.2)
        (target / "config.json").write_text("{}")
        built.append(target)

    monkeypatch.setattr(bundled, "_build_tiny_random", build)
    (tmp_path / "tiny-random").mkdir()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ensure_model, [tmp_path / "tiny-random"] * 4))
    assert len(built) == 1
    assert (tmp_path / "tiny-random/config.json").read_text() == "{}"


def test_the_tiny_models_texts_end_and_answer(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = tmp_path / "tiny-random"
    ensure_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.eos_token == "<|im_end|>"
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == tokenizer.eos_token_id
    text = "Is 3 odd? case 7: \\boxed{1}."
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        ensure_model(tmp_path / "my-model")
