from __future__ import annotations

import gc

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from guidelines_core.verl_adapter import attention

LENGTHS = (5, 1, 17, 9)


def positions(lengths: tuple[int, ...] = LENGTHS) -> torch.Tensor:
    return torch.cat([torch.arange(length) for length in lengths])[None]


def model(implementation: str) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    return Qwen2ForCausalLM._from_config(config, attn_implementation=implementation, dtype=torch.float32)


def test_packed_rows_have_the_logits_and_gradients_of_padded_ones() -> None:
    rows = [torch.randint(97, (length,), generator=torch.Generator().manual_seed(length)) for length in LENGTHS]
    padded, packed = model("sdpa"), model(attention.NAME)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    together = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    expected = padded(input_ids=together, attention_mask=mask.long()).logits[mask]
    found = packed(input_ids=torch.cat(rows)[None], position_ids=positions(), attention_mask=None).logits[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0))
    for logits in (expected, found):
        (logits * weights).sum().backward()
    for one, other in zip(padded.parameters(), packed.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, atol=1e-4, rtol=1e-4)


def test_bounds_are_found_once_for_all_layers_and_anew_for_other_positions() -> None:
    ids = positions()
    ends, longest = attention.bounds(ids)
    assert ends.tolist() == [0, 5, 6, 23, 32]
    assert ends.dtype == torch.int32
    assert longest == 17
    assert attention.bounds(ids)[0] is ends
    assert attention.bounds(ids.clone())[0] is not ends
    del ids
    gc.collect()
    assert attention.bounds(positions((3, 4)))[0].tolist() == [0, 3, 7]


def test_padded_rows_are_refused() -> None:
    states = torch.zeros(2, 4, 6, 8)
    with pytest.raises(ValueError, match="use_remove_padding=True"):
        attention.attend(torch.nn.Module(), states, states, states, None, position_ids=torch.arange(6).expand(2, 6))
