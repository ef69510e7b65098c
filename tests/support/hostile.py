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
HOSTILE.update(
    {
        "unit after unit": r"\boxed{3" + r"\text{ cm}" * 180 + "!}",
        "commas": r"\boxed{" + "1," * 900 + "1}",
        "equations": r"\boxed{" + "x=" * 900 + "1}",
        "answers": "the answer is " * 2_000,
        "dollars": "$ 1$" * 8_000,
        "digits": r"\boxed{" + "9" * 1_900 + "}",
        "roots": r"\boxed{" + r"\sqrt{" * 300 + "4" + "}" * 300 + "}",
        "spaces": r"\boxed{3" + " " * 1_900 + "4}",
    }
)
