"""Fills vLLM's cache of model classes: `python -m guidelines_core.verl_adapter.model_class MODEL …`.

Before it loads a model, each vLLM server looks up the class in `$VLLM_CACHE_ROOT/modelinfos`. If it is missing, as on a
machine's first start, the server imports torch and vLLM in a new interpreter to inspect it, which takes 30 s
(`model_executor/models/registry.py`, `inspect_model_cls`). A process that has imported them needs one second.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from vllm.model_executor.models import registry

from guidelines_core.hardware.shapes import config_file


def inspect(models: Sequence[str]) -> list[str]:
    """Inspect the classes of `models`, folders or hub ids, and return the classes' names.

    Models that are not on this machine, and classes that vLLM lacks, are skipped.
    """
    found = []
    for model in models:
        file = config_file(model)
        names = json.loads(file.read_text(encoding="utf-8")).get("architectures", []) if file else []
        for name in names:
            if known := registry.ModelRegistry.models.get(name):
                known.inspect_model_cls()
                found.append(name)
    return found


def here(function: Callable[[], Any]) -> Any:
    """Do what vLLM's `_run_in_subprocess` does, in this process, which ends afterwards and keeps no CUDA."""
    return function()


if __name__ == "__main__":
    registry._run_in_subprocess = here
    inspect(sys.argv[1:])
