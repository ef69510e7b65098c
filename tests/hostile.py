"""Solutions made to hang, exhaust or mislead the grader."""

HOSTILE = {
    "tower": r"\boxed{9^{9^{9^{9^9}}}}",
    "factorials": r"\boxed{((9!)!)!}",
    "nested braces": r"\boxed{" + "{" * 50_000 + "4" + "}" * 50_000 + "}",
    "many boxes": r"\boxed{3} " * 10_000,
    "connectors": rf"\boxed{{3}}{' or' * 12}! \boxed{{5}}" * 500 + "3",
    "unclosed boxes": r"\boxed{" * 20_000,
    "control characters": "\\boxed{" + "".join(map(chr, range(32))) + "\x7f\u202e\ud800}",
    "matrix": r"\boxed{\begin{pmatrix}" + "1&" * 900 + r"1\end{pmatrix}}",
}
