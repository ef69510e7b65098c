from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from guidelines_core.config.flat import flat

KEYS = st.text("abc", min_size=1, max_size=3)
TREES = st.recursive(
    st.integers() | st.lists(st.integers()), lambda inner: st.dictionaries(KEYS, inner, min_size=1), max_leaves=8
)


@given(st.dictionaries(KEYS, TREES))
def test_every_leaf_is_found_by_its_path_and_nothing_else(tree: dict[str, Any]) -> None:
    def leaves(node: Any) -> int:
        return sum(map(leaves, node.values())) if isinstance(node, dict) else 1

    found = flat(tree, "/")
    assert len(found) == leaves(tree)
    for path, leaf in found.items():
        node: Any = tree
        for key in path.split("/"):
            node = node[key]
        assert node == leaf
