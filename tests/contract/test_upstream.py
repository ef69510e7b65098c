"""The upstream names that this project depends on are what they were when its code was written."""

from __future__ import annotations

import ast
import dataclasses
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from guidelines_core.paths import ROOT
from guidelines_core.verl_adapter import upstream

ROWS = upstream.table()
ADAPTER = ROOT / "guidelines_core/verl_adapter"
TRAINER = "verl.trainer.ppo.v1.trainer_base.PPOTrainer"
"""What a class without a base is mixed into, if it calls `super()`."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_upstream_name_is_what_it_was(row: upstream.Row) -> None:
    assert upstream.difference(row) is None, upstream.difference(row)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"digests": {}}, "expected the digest None for verl"),
        ({"signature": "(self)"}, r"expected the signature \(self\)"),
        ({"name": f"{TRAINER}.no_such_method"}, "is gone"),
    ],
)
def test_a_change_upstream_names_the_row_and_the_remedy(changed: dict[str, object], said: str) -> None:
    row = next(row for row in ROWS if row.name == f"{TRAINER}._compute_metrics")
    text = upstream.difference(dataclasses.replace(row, **changed))  # type: ignore[arg-type]
    assert text is not None
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(text)
    assert row.ours in text
    assert "upstream.yaml" in text


def calls_to_super() -> Iterator[tuple[str, str]]:
    """Yield `FILE.CLASS` and the name of each method that a class of the adapter extends by `super()`."""
    for path in sorted(ADAPTER.rglob("*.py")):
        for found in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(found, ast.ClassDef):
                continue
            for node in ast.walk(found):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call):
                    function = node.value.func
                    if isinstance(function, ast.Name) and function.id == "super":
                        yield f"{module_name(path)}.{found.name}", node.attr


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize(("ours", "method"), sorted(set(calls_to_super())))
def test_every_method_that_is_extended_stands_in_the_table(ours: str, method: str) -> None:
    module, name = ours.rsplit(".", 1)
    bases = getattr(import_module(module), name).__mro__[1:-1]
    upstreams = [base for base in bases if base.__module__.split(".")[0] in upstream.DISTRIBUTIONS]
    owners = {
        f"{base.__module__}.{base.__qualname__}.{method}"
        for base in upstreams
        for base in base.__mro__
        if method in vars(base)
    } or {f"{TRAINER}.{method}"}
    assert owners & {row.name for row in ROWS}, f"{ours}.{method}: enter one of {sorted(owners)} in upstream.yaml"


def test_the_names_of_the_adapter_that_the_table_has_exist() -> None:
    for row in ROWS:
        for ours in row.ours.split(", "):
            room = ours if ours.split(".")[0] in ("launch", "models", "runs", "hardware") else f"verl_adapter.{ours}"
            assert pkgutil.resolve_name(f"guidelines_core.{room}"), row.name
