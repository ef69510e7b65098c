"""The batches of `analysis.bench.update`: rollouts of random tokens, as verl's trainer hands them to its workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

PROMPT_TOKENS = (150, 250)
MEDIAN_RESPONSE, SPREAD = 600, 0.9
"""Tokens of every response of the workload `even`, and median and log-normal sigma of the workload `tailed`."""


def lengths(workload: str, prompts: int, n: int, cap: int, seed: int = 0) -> list[tuple[int, int]]:
    """Return each rollout's tokens, prompt and response; the `n` rollouts of a prompt follow each other."""
    generator = np.random.default_rng(seed)
    asked = np.repeat(generator.integers(*PROMPT_TOKENS, size=prompts, endpoint=True), n)
    if workload == "even":
        said = np.full(prompts * n, MEDIAN_RESPONSE)
    else:
        said = np.minimum(MEDIAN_RESPONSE * generator.lognormal(0, SPREAD, prompts * n), cap).astype(int) + 1
    return [(int(p), min(int(r), cap)) for p, r in zip(asked, said, strict=True)]


def positions(sizes: Sequence[int], micro_batch: int, packed: bool) -> int:
    """Return how many token positions are computed for sequences of `sizes` tokens, padding included."""
    if packed:
        return sum(sizes)
    chunks = [sizes[start : start + micro_batch] for start in range(0, len(sizes), micro_batch)]
    return sum(len(chunk) * max(chunk) for chunk in chunks)


def batch_of(rows: Sequence[tuple[int, int]], real: int, vocab: int) -> Any:
    """Return rollouts of random tokens as verl's trainer hands them to its workers, a row each.

    Args:
        rows: tokens of prompt and response.
        real: rows that are rollouts; those after them only fill up and have an empty mask.
        vocab: size of the vocabulary.
    """
    import torch
    from tensordict import TensorDict

    generator = torch.Generator().manual_seed(0)

    def nested(tensors: list[torch.Tensor]) -> torch.Tensor:
        return torch.nested.as_nested_tensor(tensors, layout=torch.jagged)

    # Row by row, so that the rows that only fill up do not change what the others say.
    prompts, responses, advantages = [], [], []
    for prompt, response in rows:
        prompts.append(torch.randint(vocab, (prompt,), generator=generator))
        responses.append(torch.randint(vocab, (response,), generator=generator))
        advantages.append(torch.randn(1, generator=generator).expand(response).clone())
    masks = [torch.full((response,), int(row < real)) for row, (_, response) in enumerate(rows)]
    whole = [torch.cat(pair) for pair in zip(prompts, responses, strict=True)]
    return TensorDict(
        {
            "prompts": nested(prompts),
            "responses": nested(responses),
            "input_ids": nested(whole),
            "position_ids": nested([torch.arange(len(tokens)) for tokens in whole]),
            "response_mask": nested(masks),
            "loss_mask": nested(masks),
            "advantages": nested(advantages),
        },
        batch_size=len(rows),
    )
