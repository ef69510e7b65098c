from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from verl.utils.experimental.torch_functional import FusedLinearForPPO
from verl.workers.utils.padding import response_from_nested

from analysis.bench.update_batch import batch_of
from guidelines_core.verl_adapter.cpu.engine import FSDPEngineCPU
from guidelines_core.verl_adapter.local_workers import batch_part
from guidelines_core.verl_adapter.response_positions import IGNORED, leave_out_ignored, response_positions

SIZES = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=5)


def nested(sizes: list[int]) -> torch.Tensor:
    return torch.nested.as_nested_tensor([torch.ones(size) for size in sizes], layout=torch.jagged)


@given(SIZES)
def test_the_positions_are_those_that_verl_reads(sizes: list[tuple[int, int]]) -> None:
    whole, responses = nested([prompt + response for prompt, response in sizes]), nested([r for _, r in sizes])
    numbered = torch.nested.nested_tensor_from_jagged(torch.arange(len(whole.values())), whole.offsets())
    read = response_from_nested(numbered, responses).values()
    computed = torch.nonzero(response_positions(whole.offsets(), responses.offsets())).flatten()
    assert computed.tolist() == read.tolist()


@pytest.mark.parametrize("ignored", [[], [0, 1, 2, 5, 6], [8], list(range(9))])
def test_log_probs_and_gradients_are_verls_and_zero_where_the_label_is_ignored(ignored: list[int]) -> None:
    leave_out_ignored()
    torch.manual_seed(0)
    states, weights = torch.randn(1, 9, 4, dtype=torch.float64), torch.randn(7, 4, dtype=torch.float64)
    labels = torch.randint(7, (1, 9))
    weigh = torch.rand(1, 9)
    weigh[0, ignored] = 0
    found = []
    for forward in (FusedLinearForPPO.forward, FusedLinearForPPO.forward.__wrapped__):
        given_labels = labels.clone()
        if forward is FusedLinearForPPO.forward:
            given_labels[0, ignored] = IGNORED
        leaves = states.clone().requires_grad_(), weights.clone().requires_grad_()
        # In chunks of two, so that leaving some out moves the rest to other chunks.
        log_probs, entropy = forward(FusedLinearForPPO(chunk_size=2), *leaves, given_labels, 0.7)
        ((log_probs + entropy) * weigh).sum().backward()
        found.append((log_probs * (weigh > 0), entropy * (weigh > 0), *(leaf.grad for leaf in leaves)))
        if forward is FusedLinearForPPO.forward:
            assert log_probs[0, ignored].tolist() == entropy[0, ignored].tolist() == [0.0] * len(ignored)
    for ours, verls in zip(*found, strict=True):
        torch.testing.assert_close(ours, verls, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("backend", "bucket"), [("torch", 0), ("torch", 16), ("triton", 0)])
def test_the_engine_gives_a_prompts_tokens_and_padding_no_label(backend: str, bucket: int) -> None:
    engine = object.__new__(FSDPEngineCPU)
    engine.pad_to_length, engine.pad_to_length_bucket, engine.use_ulysses_sp = bool(bucket), bucket, False
    engine.model_config = SimpleNamespace(fused_kernel_options={"impl_backend": backend})
    batch = batch_part(batch_of([(3, 2), (1, 4)], 2, vocab=50), 2, {"use_fused_kernels": True, "temperature": 1.0})
    inputs, outputs = engine.prepare_model_inputs(batch)
    labels = outputs["input_ids_rmpad_rolled"].tolist()
    for position in [0, 1, 4, *range(9, len(labels))] if backend == "torch" else []:
        labels[position] = IGNORED
    assert inputs["shift_labels"].tolist() == [labels]
    assert len(labels) == (bucket or 10)


def test_labels_of_a_part_of_the_tokens_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.arange(4).unsqueeze(0)
    parent = "verl.workers.engine.fsdp.transformer_impl.FSDPEngineWithLMHead.prepare_model_inputs"
    monkeypatch.setattr(parent, lambda *_: ({"shift_labels": labels}, {}))
    engine = object.__new__(FSDPEngineCPU)
    engine.use_ulysses_sp = True
    inputs, _ = engine.prepare_model_inputs(batch_of([(3, 2), (1, 4)], 2, vocab=50))
    assert inputs["shift_labels"] is labels
