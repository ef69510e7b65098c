r"""Whether an answer equals the gold mathematically: math-verify, behind guards against lists of candidates.

`quick_equal` decides plain numbers and equal texts at once. `math_equal` may compute for ever: `grading` calls it in
a child process. math-verify and SymPy are imported at their first use.
"""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from guidelines_core.grading.answers import gold_text, squeeze
from guidelines_core.grading.forms import (
    ANY_LABEL,
    MAY_JOIN,
    NAMED,
    NUMERIC,
    TEXT,
    TWO_RESULTS,
    Parts,
    both_signs,
    brackets,
    commands_in,
    has_dots,
    is_single_value,
    listed_values,
    number_in,
    number_in_base,
    parts_of,
    split_outside_brackets,
    union_of_intervals,
)
from guidelines_core.grading.units import DEGREE, factors

_ONE_IN_BRACES = re.compile(r"\{([A-Za-z0-9])\}")
MAX_CHECKED_GOLD = 200  # characters; `gold_parses` says no to a longer gold that is no plain number


def _same_text(gold: str, answer: str) -> bool:
    return _ONE_IN_BRACES.sub(r"\1", squeeze(gold)) == _ONE_IN_BRACES.sub(r"\1", squeeze(answer))


def quick_equal(gold: str, answer: str) -> bool | None:
    """Decide what needs no algebra: the same text, or two plain numbers, units and all; None for anything else."""
    wanted, given = parts_of(gold), parts_of(answer)
    if wanted.label or given.label or wanted.domain or given.domain:
        return None
    if _same_text(wanted.value, given.value) and 1 in factors(wanted.unit, given.unit):
        return True
    number, other = number_in(wanted.value), number_in(given.value)
    if based := number_in_base(wanted.value):  # an answer may leave out the base that the question names
        digits, value = based
        return given.value == digits or (
            (other_base := number_in_base(given.value)) is not None and other_base[1] == value
        )
    if based := number_in_base(given.value):
        return number == based[1]
    if number is None or other is None:
        return None
    scaled = [(factor, factor * other) for factor in factors(wanted.unit, given.unit)]
    if ("." in wanted.value) == ("." in given.value):
        return any(number == value for _, value in scaled)
    # 0.333333 is 1/3 to six places, 0.33 is not.
    decimal = wanted.value if "." in wanted.value else given.value
    near = Fraction(1, 2 * 10 ** len(decimal.partition(".")[2])) if len(decimal.partition(".")[2]) >= 6 else Fraction(0)
    return any(abs(number - value) <= near * (factor if decimal is given.value else 1) for factor, value in scaled)


def _result(latex: str) -> str | None:
    """Return the last of a chain of equations, S = 3 + 4 = 7; None if the chain contradicts itself or is a list."""
    *chain, last = split_outside_brackets(latex, "=")
    if len(chain) == 1 and re.fullmatch(r"\\?[A-Za-z]+", last) and NUMERIC.fullmatch(chain[0]):
        return chain[0]  # 3 = x
    for index, part in enumerate(chain):
        if NUMERIC.fullmatch(part):
            if not _verify(_parse(last), _parse(part)):
                return None
        elif (
            not NAMED.fullmatch(part)
            or len(split_outside_brackets(part, ",")) > 1
            or (index and TWO_RESULTS.search(part))
        ):
            return None
    return last


def math_equal(gold: str, answer: str) -> bool | None:
    """Judge by math-verify, after guards against lists of candidates; may run for ever.

    None if the gold is nothing that math-verify understands.
    """
    decided = quick_equal(gold, answer)
    if decided is not None:
        return decided
    wanted, given = parts_of(union_of_intervals(gold)), parts_of(union_of_intervals(answer))
    if not _parse(wanted.value):
        return None
    if wanted.label and given.label:
        if wanted.label != given.label:
            return False
        if given.value == given.label or wanted.value == wanted.label:  # one of them is the bare letter
            return not ANY_LABEL.search(given.value.removeprefix(given.label))
    if wanted.domain and given.domain and wanted.domain != given.domain:
        return False
    return _value_equal(wanted, given)


def _value_equal(wanted: Parts, given: Parts) -> bool:
    gold, answer = wanted.value, given.value
    if _same_text(gold, answer) and 1 in factors(wanted.unit, given.unit):
        return True
    word = TEXT.sub(r"\1", gold).strip()
    if word != gold or (word.isalpha() and len(word) > 3):  # as a product of letters, dog would equal god
        return word.casefold() == TEXT.sub(r"\1", answer).strip().rstrip(".!").casefold()
    gold, answer = listed_values(gold), listed_values(answer)
    named, same_named = (split_outside_brackets(text, "=") for text in (gold, answer))
    if len(named) == len(same_named) == 2 and _same_text(named[0], same_named[0]) and "," not in gold + answer:
        gold, answer = named[1], same_named[1]
    forms = split_outside_brackets(answer, ",")
    if 1 < len(forms) <= 4 and "=" not in answer and is_single_value(gold.replace("=", "+")):
        return all(_value_equal(wanted, parts_of(form)) for form in forms)  # the same value in several forms
    is_value = len(split_outside_brackets(gold, "=")) == 1 and not re.search(r"[<>]|\\[lg]eq?", gold)
    if is_value and len(split_outside_brackets(answer, "=")) > 1:
        if len(split_outside_brackets(answer, ",")) == 1:
            result = _result(answer)
            if result is None:
                return False
            answer = parts_of(result).value
        elif is_single_value(gold):
            return False
    if (
        (is_single_value(gold.replace("=", "+")) and not is_single_value(answer.replace("=", "+")))
        or (brackets(gold) and brackets(answer) and brackets(gold) != brackets(answer))
        or commands_in(answer) - commands_in(gold) - MAY_JOIN
        or has_dots(gold) != has_dots(answer)
    ):
        return False
    golds, answers = _parse(both_signs(gold)), _parse(both_signs(answer))
    scales: list[Any] = list(factors(wanted.unit, given.unit))
    if (wanted.unit == DEGREE) != (given.unit == DEGREE) and (gold + answer).count(r"\pi"):
        scales.append("degrees" if wanted.unit == DEGREE else "radians")
    return any(_verify(golds, _scaled(answers, scale)) for scale in scales)


@lru_cache(maxsize=256)
def _parse(latex: str) -> list[Any]:
    """Return what math-verify's parser makes of one formula, in a list, or an empty list."""
    from latex2sympy2_extended import NormalizationConfig, latex2sympy  # type: ignore[import-untyped]
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig  # type: ignore[import-untyped]
    from math_verify.grader import should_treat_as_complex  # type: ignore[import-untyped]
    from sympy import I

    if re.search(r"\\(?:gcd|lcm)|\{(?:gcd|lcm)\}|!\s*!", latex):
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


def _scaled(answers: list[Any], scale: Any) -> list[Any]:
    """Return the answers that are expressions, times `scale`."""
    from sympy import Expr, Rational, pi

    if scale == 1:
        return answers
    factor = {"degrees": 180 / pi, "radians": pi / 180}.get(scale) or Rational(scale.numerator, scale.denominator)
    return [factor * answer for answer in answers if isinstance(answer, Expr)]


def _verify(golds: list[Any], answers: list[Any]) -> bool:
    from math_verify import verify
    from sympy import Float, Number  # type: ignore[import-untyped]

    if not verify(golds, answers, allow_set_relation_comp=True, timeout_seconds=None):
        return False
    # math-verify rounds floats to six decimals, so that 1e-7 equals 2e-7.
    pairs = [(g, a) for g in golds for a in answers if isinstance(g, Number) and isinstance(a, Number)]
    return all(
        abs(g - a) <= 1e-6 * max(abs(g), abs(a)) for g, a in pairs if isinstance(g, Float) or isinstance(a, Float)
    )


def gold_parses(gold: str) -> bool:
    """Tell whether `math_equal` understands a gold; at once for plain numbers, else by math-verify's parser.

    The parse runs in this process and without a deadline: golds come from data files, not from a model that
    is rewarded for what it writes, and no more than `MAX_CHECKED_GOLD` characters are parsed.
    """
    wanted = gold_text(gold)
    if wanted is None or len(wanted) > MAX_CHECKED_GOLD:
        return False
    value = parts_of(union_of_intervals(wanted)).value
    if number_in(value) is not None:
        return True
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that the parse has no deadline
    return bool(_parse(value))
