"""The shapes of models and the figures of GPUs, from which memory and time are computed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

KNOWN = Path(__file__).resolve().parent / "known"


@dataclass(frozen=True)
class Shape:
    """A decoder's shape.

    Attributes:
        hidden, layers, heads, kv_heads, head_dim, intermediate, vocab: sizes, as in the model's `config.json`.
        tied: whether input embeddings and LM head are one matrix.
        context: longest sequence, in tokens.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool
    context: int

    @property
    def parameters(self) -> int:
        """Number of weights, without norms and biases (below 0.1 %)."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        embeddings = self.vocab * self.hidden * (1 if self.tied else 2)
        return self.layers * (attention + 3 * self.hidden * self.intermediate) + embeddings

    def adapter_parameters(self, rank: int) -> int:
        """Number of weights of LoRA adapters on every linear layer but the LM head (Hu et al. 2021, 2106.09685)."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        sides = 2 * (self.hidden + queries) + 2 * (self.hidden + keys) + 3 * (self.hidden + self.intermediate)
        return self.layers * rank * sides

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values for one token in bf16."""
        return 2 * 2 * self.layers * self.kv_heads * self.head_dim

    def forward_flops(self, length: float) -> float:
        """FLOPs of one token's forward pass in a sequence of `length` tokens.

        Two for each weight that multiplies, and attention over half of the sequence on average (Kaplan et al. 2020,
        2001.08361, section 2.1).
        """
        used = self.parameters - (0 if self.tied else self.vocab * self.hidden)
        return 2 * used + 2 * self.layers * self.heads * self.head_dim * length


@dataclass(frozen=True)
class Gpu:
    """A GPU's figures: bf16 FLOP/s, memory bandwidth in B/s, memory in GiB.

    `link` is the bandwidth to the other GPUs of its node, `network` that to other nodes, both one way in B/s.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float
    link: float = 0.0
    network: float = 0.0


def gpus() -> dict[str, Gpu]:
    """Return the known GPUs by name."""
    return {name: Gpu(name, **figures) for name, figures in _known("gpus.yaml").items()}


def cpu(cores: int) -> Gpu:
    """Return the nominal figures of so many CPU cores in the form of a GPU's: an upper bound on their speed."""
    core = _known("cpu-core.yaml")
    return Gpu(f"{cores} CPU cores", cores * core["flops"], cores * core["bandwidth"], 0.0)


def find_shape(model: str) -> Shape | None:
    """Return the shape of a model from its folder, the hub's local cache or `known/models.yaml`.

    None if it is in none, or its `config.json` is broken or of another kind of model.
    """
    file = config_file(model)
    if file is None:
        known = _known("models.yaml").get(model)
        return Shape(**known) if known else None
    try:
        return _shape(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError):
        return None


def _shape(read: dict[str, Any]) -> Shape:
    """Return the shape that a `config.json` describes."""
    return Shape(
        hidden=read["hidden_size"],
        layers=read["num_hidden_layers"],
        heads=read["num_attention_heads"],
        kv_heads=read.get("num_key_value_heads") or read["num_attention_heads"],
        head_dim=read.get("head_dim") or read["hidden_size"] // read["num_attention_heads"],
        intermediate=read["intermediate_size"],
        vocab=read["vocab_size"],
        tied=read.get("tie_word_embeddings", False),
        context=read["max_position_embeddings"],
    )


def config_file(model: str) -> Path | None:
    """Return a model's `config.json` on this machine: in its folder or in the hub's cache, None if in neither."""
    if model.startswith("/"):
        file = Path(model) / "config.json"
        return file if file.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(model, "config.json")
    return Path(cached) if isinstance(cached, str) else None


@cache
def _known(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((KNOWN / name).read_text(encoding="utf-8"))
    return loaded
