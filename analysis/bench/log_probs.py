"""Measures the product of hidden states and vocabulary in verl's log-prob kernel: all positions against responses'.

    python -m analysis.bench.log_probs --model NAME [--rollouts 256] [--prompt 89] [--response 60]

Random numbers in the model's shape, on the GPU if there is one, both arms in turns. Prints as JSON the seconds of a
forward pass, those of a forward and backward pass, and how many times faster the responses' positions alone are.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from analysis.benchmark import hardware
from guidelines_core.hardware.shapes import find_shape

REPEATS = 3


def main() -> int:
    """Time both arms, print the figures; return the exit code."""
    parser = argparse.ArgumentParser(description="Time log-probs of all positions and of the responses' alone.")
    parser.add_argument("--model", required=True, help="a model's folder, or its name on the hub")
    parser.add_argument("--rollouts", type=int, default=256, help="default %(default)s")
    parser.add_argument("--prompt", type=int, default=89, help="tokens of each prompt (default %(default)s)")
    parser.add_argument("--response", type=int, default=60, help="tokens of each response (default %(default)s)")
    options = parser.parse_args()
    shape = find_shape(options.model)
    if shape is None:
        parser.error(f"--model={options.model}: its shape is not known; expected a folder with a config.json")
    found = measure(shape.hidden, shape.vocab, options.rollouts, options.prompt, options.response)
    print(json.dumps({**hardware(), **vars(options), **found}, indent=1))
    return 0


def measure(hidden: int, vocab: int, rollouts: int, prompt: int, response: int) -> dict[str, Any]:
    """Return the median seconds of each arm, of a forward pass and with the backward pass, and their ratios."""
    import torch

    from guidelines_core.verl_adapter.local_workers import log_prob_kernel
    from guidelines_core.verl_adapter.response_positions import IGNORED

    cuda = torch.cuda.is_available()
    device, kind = ("cuda", torch.bfloat16) if cuda else ("cpu", torch.float32)
    kernel, tokens = log_prob_kernel(), rollouts * (prompt + response)
    states = torch.randn(tokens, hidden, device=device, dtype=kind, requires_grad=True)
    weights = (torch.randn(vocab, hidden, device=device, dtype=kind) / hidden).requires_grad_()
    labels = torch.randint(vocab, (rollouts, prompt + response), device=device)
    responses = labels.clone()
    responses[:, : prompt - 1] = responses[:, -1] = IGNORED

    def forward(of: Any) -> None:
        with torch.no_grad():
            kernel.forward(states, weights, of.flatten())

    def both(of: Any) -> None:
        kernel.forward(states, weights, of.flatten())[0].sum().backward()

    def seconds(step: Callable[[Any], None], of: Any) -> float:
        began = time.perf_counter()
        step(of)
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - began

    found: dict[str, Any] = {}
    for name, step in (("forward", forward), ("forward_and_backward", both)):
        seconds(step, responses)
        turns = [(seconds(step, labels), seconds(step, responses)) for _ in range(REPEATS)]
        every, alone = (statistics.median(column) for column in zip(*turns, strict=True))
        found[name] = {"all_s": round(every, 4), "responses_s": round(alone, 4), "ratio": round(every / alone, 2)}
    return found


if __name__ == "__main__":
    sys.exit(main())
