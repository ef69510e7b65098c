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
from guidelines_core.verl_adapter.early_reference import EarlyReference
from guidelines_core.verl_adapter.early_servers import EarlyServers
from guidelines_core.verl_adapter.graded_rows import GradedRows
from guidelines_core.verl_adapter.lost_rollouts import LostRollouts
from guidelines_core.verl_adapter.old_log_probs import OldLogProbs
from guidelines_core.verl_adapter.trainer import Recording
from guidelines_core.verl_adapter.trials import Trial

ROWS = upstream.table()
ADAPTER = ROOT / "guidelines_core/verl_adapter"
TRAINER = "verl.trainer.ppo.v1.trainer_base.PPOTrainer"
MIXINS = (Recording, GradedRows, EarlyServers, EarlyReference, OldLogProbs, LostRollouts, Trial)
"""Classes without a base that are mixed into `TRAINER`."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_upstream_name_is_what_it_was(row: upstream.Row) -> None:
    assert upstream.difference(row) is None, upstream.difference(row)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"digests": {}}, r"no digest is entered for verl [\d.]+, whose is [0-9a-f]{12}\. "),
        ({"signature": {}}, r"no signature is entered for verl [\d.]+, whose is \(self, "),
        (
            {"digests": {"verl 0.9.1": "000000000000"}},
            r"expected the digest 000000000000 for verl .*, found [0-9a-f]{12}\. ",
        ),
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


def methods() -> Iterator[tuple[str, str]]:
    """Yield `FILE.CLASS` and the name of each method of a class of the adapter."""
    for path in sorted(ADAPTER.rglob("*.py")):
        for found in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(found, ast.ClassDef):
                for node in found.body:
                    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                        yield f"{module_name(path)}.{found.name}", node.name


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def overridden(ours: type, method: str) -> str | None:
    """Return the upstream class whose method a method takes the place of: a base, for a mixin the trainer."""
    bases = [base for base in ours.__mro__[1:] if base.__module__.split(".")[0] in upstream.DISTRIBUTIONS]
    if not bases and issubclass(ours, MIXINS):
        bases = list(pkgutil.resolve_name(TRAINER).__mro__[:-1])
    owner = next((base for base in bases if method in vars(base)), None)
    return None if owner is None else f"{owner.__module__}.{owner.__qualname__}"


def test_every_override_stands_in_the_table() -> None:
    names = {row.name for row in ROWS}
    found = 0
    for path, method in methods():
        module, name = path.rsplit(".", 1)
        if owner := overridden(getattr(import_module(module), name), method):
            found += 1
            assert {owner, f"{owner}.{method}"} & names, f"{path}.{method}: enter {owner}.{method} in upstream.yaml"
    assert found > 40


def test_the_names_of_the_adapter_that_the_table_has_exist() -> None:
    rooms = {path.name for path in (ROOT / "guidelines_core").iterdir() if path.is_dir()}
    for row in ROWS:
        for ours in row.ours.split(", "):
            name = ours if ours.split(".")[0] in rooms else f"verl_adapter.{ours}"
            assert (ROOT / ours).is_file() or pkgutil.resolve_name(f"guidelines_core.{name}"), row.name
