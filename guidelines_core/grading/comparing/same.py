r"""The comparison of parts: each module of a form is given it, for what its own form is made of."""

from __future__ import annotations

from collections.abc import Callable

from guidelines_core.grading.reading.nodes import Node

Same = Callable[[Node, Node], "bool | None"]
"""Tells whether a part of the answer says the same as one of the gold; None where that cannot be said."""
