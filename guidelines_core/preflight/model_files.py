"""Checks whether a folder holds a whole model: a download may have ended early, or brought pointers alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WEIGHTS = ("*.safetensors", "*.bin")
INDEX = "model.safetensors.index.json"
"""The file that names the shard of each weight."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")

AGAIN = "copy all files of the model, or fetch it again: hf download"


def model_fault(folder: Path) -> tuple[str, str] | None:
    """Return what a model's folder lacks, and the remedy; None if it is whole."""
    if not (folder / "config.json").is_file():
        return "this folder holds no config.json", "name a model's folder or a hub id"
    for name in ("config.json", INDEX, "tokenizer_config.json"):
        if (folder / name).is_file() and read_json(folder / name) is None:
            return f"its {name} is no JSON file", AGAIN
    if not any(any(folder.glob(pattern)) for pattern in WEIGHTS):
        return f"this folder holds no weights ({' or '.join(WEIGHTS)})", AGAIN
    shards = set((read_json(folder / INDEX) or {}).get("weight_map", {}).values())
    if missing := sorted(shard for shard in shards if not (folder / shard).is_file()):
        return f"{len(missing)} of {len(shards)} files of its weights are missing ({missing[0]})", AGAIN
    for file in sorted(folder.glob("*.safetensors")):
        if not is_whole(file):
            return f"{file.name} has {file.stat().st_size} bytes and is not whole", AGAIN
    if not any((folder / name).is_file() for name in TOKENIZERS):
        return f"this folder holds no tokenizer ({' or '.join(TOKENIZERS)})", AGAIN
    if not has_chat_template(folder):
        return (
            "its tokenizer has no chat template, and prompts are chats",
            "name the Instruct model, or put a chat_template.jinja into the folder",
        )
    return None


def has_chat_template(folder: Path) -> bool:
    """Return whether a tokenizer has a chat template, in a file of its own or in its configuration."""
    files = ("chat_template.jinja", "chat_template.json")
    settings = read_json(folder / "tokenizer_config.json") or {}
    return any((folder / name).is_file() for name in files) or bool(settings.get("chat_template"))


def is_whole(file: Path) -> bool:
    """Return whether a safetensors file has all bytes that its header names.

    Eight bytes with the header's length, the header as JSON, the weights' bytes (huggingface.co/docs/safetensors).
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > size - 8:
            return False
        try:
            header = json.loads(opened.read(length))
        except ValueError:
            return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return size == 8 + length + max(ends, default=0)


def read_json(file: Path) -> dict[str, Any] | None:
    """Return a JSON file's mapping; None if there is no such file or it is none."""
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) else None
