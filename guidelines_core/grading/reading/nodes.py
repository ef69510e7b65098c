r"""What an answer is read as: a tree of nodes, and a key that is the same for the same tree in another order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property


@dataclass(frozen=True)
class Node:
    r"""A part of an answer.

    Attributes:
        head: what it is.
            Values: `number`, `symbol`, `+`, `*`, `^`, `/`, `pm` (both signs of its argument; `mp`), `apply` (a function
            by name), `opaque` (nothing is known but what it is made of).
            Collections: `list` (name: `,`, `and` or `or`), `()` and `<>` (tuples), `[]`, `(]`, `[)` (intervals), `set`,
            `matrix` (of rows, which are `row`), `union`, `intersection`, `minus`, `builder` (variable, conditions).
            Statements: `relation` (name: the relation signs, separated by spaces).
            Others: `text` (words), `quantity` (name: the unit's words), `where` (a value and a clause).
        args: what it is made of.
        name: a symbol's or function's name, and so on.
        value: a number's value.
    """

    head: str
    args: tuple[Node, ...] = ()
    name: str = ""
    value: Fraction | None = None

    @cached_property
    def key(self) -> str:
        """A text that is equal for equal trees, whatever the order where order has no meaning."""
        if self.head == "number":
            return str(self.value)
        if self.head in ("symbol", "text"):
            return f"{self.head[0]}:{self.name}"
        keys = [arg.key for arg in self.args]
        if self.head in ("+", "*", "set", "union", "intersection"):
            keys.sort()
        return f"{self.head}[{self.name}]({','.join(keys)})"

    def walk(self) -> Iterator[Node]:
        """Yield this node and every node below it."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.args)

    def rebuild(self, change: Callable[[Node], Node | None]) -> Node:
        """Return the tree with every node that `change` returns another node for replaced, from the top."""
        changed = change(self)
        if changed is not None:
            return changed
        args = tuple(arg.rebuild(change) for arg in self.args)
        return self if args == self.args else Node(self.head, args, self.name, self.value)


def number(value: int | Fraction | str) -> Node:
    """Return a number; a text keeps its decimal places."""
    return Node("number", name=value if isinstance(value, str) else "", value=Fraction(value))


def symbol(name: str) -> Node:
    """Return a symbol."""
    return Node("symbol", name=name)


def symbols_in(node: Node) -> set[str]:
    """Return the names of the symbols that stand for something unknown."""
    return {part.name for part in node.walk() if part.head == "symbol" and part.name not in CONSTANTS}


CONSTANTS = frozenset({"pi", "e", "i", "infty", "emptyset"})
VALUES = frozenset({"number", "symbol", "+", "*", "^", "/", "pm", "mp", "apply", "opaque"})


def is_value(node: Node) -> bool:
    """Tell whether a node is one value, such as a number or an expression."""
    return node.head in VALUES
