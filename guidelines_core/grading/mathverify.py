r"""math-verify for what the grader's own parser does not read, behind guards; its verdict is checked exactly.

math-verify and SymPy are imported at the first call; a call may run forever.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

_NOT_READ = re.compile(r"\\(?:gcd|lcm)|\{(?:gcd|lcm)\}|!\s*!|\d_\{?\d|\\(?:[bx]?cancel|sout|st)\b")
_SEVERAL = re.compile(
    r",|;|'|\\pm|\\mp|\\text|\\mathrm|\\cup|\\lor|\\vee|\bor\b|\band\b|\\q?quad|\\\\|=|<|>|\\[lg]eq?|\\ne"
)


def equal(gold: str, answer: str) -> bool | None:
    """Judge by math-verify, and check what it calls equal again; None if it does not understand the gold.

    An answer that could be several where the gold is one value is wrong.
    """
    golds = parse(gold)
    if not golds:
        return None
    if set(_SEVERAL.findall(answer)) - set(_SEVERAL.findall(gold)) or re.search(r"\d[\s$]+[\d.]", answer):
        return False
    from math_verify import verify  # type: ignore[import-untyped]

    answers = parse(answer)
    if not verify(golds, answers, allow_set_relation_comp=True, timeout_seconds=None):
        return False
    return all(_same_number(g, a) for g in golds for a in answers)


def _same_number(gold: Any, answer: Any) -> bool:
    """Tell whether two SymPy numbers are equal to 60 digits of each; True for what is no number."""
    from sympy import Expr  # type: ignore[import-untyped]

    if not (isinstance(gold, Expr) and isinstance(answer, Expr)) or gold.free_symbols or answer.free_symbols:
        return True
    if gold == answer:
        return True
    first, second = gold.evalf(60), answer.evalf(60)
    difference = (gold - answer).evalf(60)
    return bool(abs(difference) <= abs(first) * 10**-50 and abs(difference) <= abs(second) * 10**-50)


@lru_cache(maxsize=256)
def parse(latex: str) -> list[Any]:
    """Return what math-verify's parser makes of one formula, in a list, or an empty list."""
    from latex2sympy2_extended import NormalizationConfig, latex2sympy  # type: ignore[import-untyped]
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig  # type: ignore[import-untyped]
    from math_verify.grader import should_treat_as_complex  # type: ignore[import-untyped]
    from sympy import I

    if _NOT_READ.search(latex):
        return []  # it calls the gcd of two letters 1, and reads n!! as (n!)!
    try:
        # Not by math_verify.parse: its search for a formula has nothing to find here, its list of units takes
        # "ab" and "t" for units, and it drops the case of letters, so that R - r would be 0.
        parsed = latex2sympy(
            latex,
            is_real=not should_treat_as_complex(latex),
            normalization_config=NormalizationConfig(units=False, malformed_operators=True, nits=True, boxed="none"),
            conversion_config=ConversionConfig(lowercase_symbols=False),
        )
        imaginary = {symbol: I for symbol in parsed.free_symbols if symbol.name == "i"}
        return [parsed.subs(imaginary) if imaginary else parsed]
    except MemoryError:
        raise
    except Exception:  # the parser raises whatever comes to it
        return []
