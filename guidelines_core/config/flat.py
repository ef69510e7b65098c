"""A configuration's tree as one level of keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flat(tree: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """Return the leaves of a tree by their paths, `a.b.c`; a list is a leaf."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= {f"{key}{separator}{path}": leaf for path, leaf in flat(value, separator).items()}
        else:
            leaves[str(key)] = value
    return leaves
