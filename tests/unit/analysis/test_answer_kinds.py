from __future__ import annotations

import pytest

from analysis.stats.answer_kinds import answer_kind


@pytest.mark.parametrize(
    ("gold", "kind"),
    [
        ("18", "integer"), ("-3", "integer"), ("1{,}000", "integer"), (r"\boxed{18}", "integer"), ("0.5", "decimal"),
        (r"\frac{3}{4}", "fraction"), (r"-\dfrac12", "fraction"), ("3/4", "fraction"),
        (r"1\frac{1}{2}", "mixed number"),
        (r"50\%", "percent"), (r"12\text{ cm}^2", "number with a unit"), (r"\$5", "number with a unit"),
        (r"62^\circ", "number with a unit"), ("(B)", "letter of a choice"), (r"\text{Monday}", "text"),
        (r"\text{No solution}", "text"), ("(1,2)", "tuple, interval or set"), (r"\{1,2\}", "tuple, interval or set"),
        (r"(-\infty,0)\cup(1,\infty)", "tuple, interval or set"), ("1, 2", "several values"),
        (r"\pm 4", "several values"),
        ("x = 3", "equation or inequality"), (r"x \le 3", "equation or inequality"), (r"2\sqrt{2}", "expression"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", "matrix"), (r"x^2+1", "expression"), ("", "not readable"),
    ],
)  # fmt: skip
def test_the_kind_of_a_gold(gold: str, kind: str) -> None:
    assert answer_kind(gold) == kind
