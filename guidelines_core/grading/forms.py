r"""The form of an answer: its value, unit, choice label and domain, and what kind of thing its text may be."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from guidelines_core.grading.answers import normalise, squeeze, unwrap
from guidelines_core.grading.units import Unit, split_unit

# -- an answer's parts ------------------------------------------------------------------------------------

TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|bf|rm)\s*\{([^{}]*)\}")
_REWRITES = [
    (re.compile(pattern, re.DOTALL), replacement)
    for pattern, replacement in (
        (r"\\(?:text|textbf|mathbf|mathrm|boldsymbol|bm)\s*\{\s*(-?[\d.,/]*|[A-Za-z])\s*\}", r" \1 "),
        (r"^(-?\d+)\s+(\d+)/(\d+)$", r"\1\\frac{\2}{\3}"),
        (r"^\\?\{\s*([A-Za-z])\s*(?:\\mid(?![A-Za-z])|\||:)\s*\1\s*=([^=<>]*[^=<>\\])\\?\}$", r"\\{\2\\}"),
        (r"^\\?\{\s*([A-Za-z])\s*(?:\\mid(?![A-Za-z])|\\vert|\||:)\s*(?=.*\1)(.*[^\\])\\?\}$", r"\2"),
        (r"^(?:\\mathbb\s*\{?\s*R\s*\}?|\u211d)$", r"(-\\infty,\\infty)"),
        (r"^[A-Z]\s*(?=\([^()]*,[^()]*\)$)", ""),  # the point P(1,2)
        (r"\\(?:operatorname|mathrm|text)\s*\{\s*(?:arc\s*tg|arctan)\s*\}|\\arctg(?![A-Za-z])", r"\\arctan "),
        (r"\\(?:operatorname|mathrm|text)\s*\{\s*tg\s*\}|\\tg(?![A-Za-z])", r"\\tan "),
        (r"\\(?:operatorname|mathrm|text)\s*\{\s*ctg\s*\}|\\ctg(?![A-Za-z])", r"\\cot "),
        (r"\\(?:operatorname|mathrm|text)\s*\{\s*lg\s*\}|\\lg(?![A-Za-z])", r"\\log_{10} "),
        (r"\\(gamma|Gamma)(?![A-Za-z])", r"\\kappa_{\1}"),  # latex2sympy reads it as the function
        (r"(?<=[A-Za-z])'", "_{prime}"),  # math-verify drops quotes: y' would be y
        (r"(\d*)\.(\d*)\\(?:overline|dot|bar)\s*\{(\d+)\}$", lambda m: _recurring(*m.groups())),
    )
]
_LABEL = r"\(\s*([A-J])\s*\)|([A-J])\s*[.):](?!\d)|([A-J])$"
_CHOICE = re.compile(
    rf"(?:\\(?:text|textbf|textrm|mathrm|mathbf)\s*\{{\s*(?:{_LABEL})[\s\\]*\}}|(?:{_LABEL}))\s*(.*)", re.DOTALL
)
ANY_LABEL = re.compile(r"\(\s*[A-J]\s*\)|(?<![A-Za-z\\])[A-J]\s*[.)]")
_DOMAIN = re.compile(
    r"(.*\S)(?:\s*[,(]|\s+|\s*\\text\s*\{[^{}]*\})\s*([a-zA-Z](?:,[a-zA-Z])*\s*\\in\s*\\?[A-Za-z]+(?:\s*\{?[A-Z]\}?)?\S*?)\)?",
    re.DOTALL,
)


def _recurring(whole: str, fixed: str, period: str) -> str:
    shift, cycle = 10 ** len(fixed), 10 ** len(period) - 1
    value = int((whole or "0") + fixed) * cycle + int(period)
    return rf"\frac{{{value}}}{{{shift * cycle}}}"


class Parts(NamedTuple):
    r"""What an answer's text is made of.

    Attributes:
        value: the LaTeX that is left, normalised; the label if there is nothing else.
        unit: None for none, or one that is not known.
        label: the letter of a multiple choice, or nothing.
        domain: a clause like `k \in \mathbb{Z}` after the value, or nothing.
    """

    value: str
    unit: Unit | None
    label: str
    domain: str


def parts_of(latex: str) -> Parts:
    """Take an answer apart."""
    latex = unwrap(latex.strip().rstrip(".").strip())
    label = ""
    if choice := _CHOICE.fullmatch(latex):
        *labels, rest = choice.groups()
        label = next(name for name in labels if name)
        latex = re.sub(r"^(?:\\[ ,;:]|[~\s.,:])+", "", rest)
        if not latex:
            return Parts(label, None, label, "")
    latex, unit = split_unit(latex)
    latex = normalise(latex)
    if not unit:
        latex, unit = split_unit(latex)
    domain = ""
    if clause := _DOMAIN.fullmatch(latex):
        latex, domain = clause[1].rstrip(" ,("), squeeze(clause[2])
    for pattern, replacement in _REWRITES:
        latex = pattern.sub(replacement, latex)
    return Parts(normalise(latex), unit, label, domain)


# -- numbers -----------------------------------------------------------------------------------------------

_PLAIN_NUMBER = re.compile(
    r"([+-]?)\s*(?:(\d{1,60}(?:\.\d{0,60})?|\.\d{1,60})|\\frac\{(-?\d{1,60})\}\{(\d{1,60})\}|(\d{1,60})/(\d{1,60}))"
)


def number_in(latex: str) -> Fraction | None:
    """Return the value of a plain number (60 digits at most) or simple fraction; None for anything else."""
    match = _PLAIN_NUMBER.fullmatch(latex)
    if not match:
        return None
    sign, decimal, top, bottom, above, below = match.groups()
    if decimal:
        value = Fraction(decimal)
    elif int(bottom or below) == 0:
        return None
    else:
        value = Fraction(int(top or above), int(bottom or below))
    return -value if sign == "-" else value


_BASED = re.compile(r"([0-9A-Z]{1,60})_\{?(\d{1,2})\}?")


def number_in_base(latex: str) -> tuple[str, int] | None:
    """Return the digits and the value of 1101_2; None for anything else."""
    match = _BASED.fullmatch(latex)
    try:
        return (match[1], int(match[1], int(match[2]))) if match else None
    except ValueError:
        return None


# -- one value, or several ----------------------------------------------------------------------------------

_CALCULATION = r"\\(?:frac|sqrt|cdot|times|div|binom|pi|ln|log|exp)(?![A-Za-z])"
_NAMES = (
    r"\\(?:infty|[a-z]*(?:sin|cos|tan|cot|sec|csc)|alpha|beta|gamma|delta|theta|lambda|mu|phi|varphi|rho|tau|omega|"
    r"sigma|psi|epsilon|varepsilon|kappa|angle|triangle|overrightarrow|vec|max|min|lfloor|rfloor|lceil|rceil|mathbb|"
    r"mathcal|prime|circ)(?![A-Za-z])"
)
_PLAIN = re.compile(rf"(?:[A-Za-z0-9_.+\-*/^(){{}}\[\]|!:\s]|{_CALCULATION}|{_NAMES})*")
NAMED = re.compile(rf"(?:[A-Za-z0-9_.,+\-*/^(){{}}\[\]|!:'\s]|{_CALCULATION}|{_NAMES}|\\(?:cap|cup)(?![A-Za-z]))*")
_TWO_NUMBERS = re.compile(r"\d\s+[\d.]")  # math-verify reads "3 4" as 3 + 4
TWO_RESULTS = re.compile(r"\d\s+[A-Za-z]\s*$")  # of x = 3 y = 4
NUMERIC = re.compile(rf"(?:[0-9.+\-*/^(){{}}!:\s]|{_CALCULATION})*")
MAY_JOIN = frozenset(
    "frac sqrt cdot times div binom pi ln log exp infty cup cap setminus pm mp emptyset begin end in mathbb mathbf "  # noqa: SIM905
    "mathrm text le leq leqslant ge geq geqslant lt gt ne lfloor rfloor lceil rceil sum prod int circ cos sin tan cot "
    "sec csc arcsin arccos arctan sinh cosh tanh alpha beta delta theta lambda mu phi varphi rho tau omega sigma psi "
    "epsilon kappa angle vec overrightarrow max min lbrace rbrace langle rangle hat bar overline prime ldots".split()
)
_COMMAND = re.compile(r"\\([A-Za-z]+)|(\.\.\.)")


def is_single_value(latex: str) -> bool:
    """Tell whether nothing in the text could separate two candidates."""
    return bool(_PLAIN.fullmatch(latex)) and not _TWO_NUMBERS.search(latex)


def split_outside_brackets(latex: str, separator: str) -> list[str]:
    """Split at a separator that stands in no bracket."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(latex):
        depth += (character in "({[") - (character in ")}]")
        if character == separator and depth == 0 and latex[index - 1 : index] not in ("<", ">", "!", "\\"):
            parts.append(latex[start:index].strip())
            start = index + 1
    return [*parts, latex[start:].strip()]


def brackets(latex: str) -> str:
    """Return the two brackets around a tuple, interval or set (`<>` for braces); nothing for anything else."""
    opening, closing = latex.replace("\\{", "<").replace("\\}", ">")[:1], latex[-1:]
    return opening + closing if opening and opening in "([<" and closing in ")]}" and "," in latex else ""


_ASSIGNED = re.compile(r"([A-Za-z])(?:_\{?\d\}?)?\s*=\s*([^=<>]+)")


def listed_values(latex: str) -> str:
    """Return the values of x_1 = 1, x_2 = 3, which are the roots of one unknown, or else the text itself."""
    found = [_ASSIGNED.fullmatch(part) for part in split_outside_brackets(latex, ",")]
    if len(found) > 1 and all(found) and len({match[1] for match in found if match}) == 1:
        return ",".join(match[2] for match in found if match)
    return latex


def both_signs(latex: str) -> str:
    r"""Return 1 \pm 2 as 1+2,1-2: latex2sympy reads \pm 1 + 2 as \pm(1 + 2)."""
    parts = split_outside_brackets(latex, ",")
    if "=" in latex or any(part.count(r"\pm") > 1 or part.startswith(("(", "[", "\\{")) for part in parts):
        return latex
    signs = [part.replace(r"\pm", sign) for part in parts for sign in ("+-" if r"\pm" in part else "+")]
    return ",".join(part.strip().removeprefix("+") for part in signs)


_COMPARED = re.compile(
    r"(?:([^<>=]*?)\s*(<|>|\\leq?(?:slant)?(?![A-Za-z])|\\geq?(?:slant)?(?![A-Za-z])))?\s*"
    r"\\?[A-Za-z]\s*(<|>|\\leq?(?:slant)?(?![A-Za-z])|\\geq?(?:slant)?(?![A-Za-z]))\s*([^<>=,]*)"
)


def union_of_intervals(latex: str) -> str:
    r"""Return x<0 or x>1 as (-\infty,0)\cup(1,\infty); any other text as it is."""
    parts = re.split(r"\s*(?:\\(?:text|mathrm)\s*\{\s*or\s*\}|(?<![A-Za-z])or(?![A-Za-z])|\\lor|\\vee)\s*", latex)
    found = [_COMPARED.fullmatch(part.strip()) for part in parts]
    if len(parts) < 2 or not all(found):
        return latex
    names = {re.findall(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])", part)[0] for part in parts}
    if len(names) > 1:
        return latex
    return r"\cup".join(_interval(match) for match in found if match)


def _interval(match: re.Match[str]) -> str:
    left, first, second, right = match.groups()
    ends = {"lower": (r"-\infty", "("), "upper": (r"\infty", ")")}
    for bound, relation, flipped in ((left, first, True), (right, second, False)):
        if bound:
            lower = (relation[0] == "<" or relation.startswith(r"\l")) == flipped
            closed = relation.startswith("\\")
            ends["lower" if lower else "upper"] = (bound, ("[" if closed else "(") if lower else "]" if closed else ")")
    (low, opening), (high, closing) = ends["lower"], ends["upper"]
    return f"{opening}{low},{high}{closing}"


def commands_in(latex: str) -> set[str]:
    """Return the names of the LaTeX commands, three dots among them."""
    return {name or dots for name, dots in _COMMAND.findall(latex)}


def has_dots(latex: str) -> bool:
    """Tell whether something is left to be imagined: 1, 2, 3, ..."""
    return bool(re.search(r"\\[lcd]?dots|\.\.\.", latex))
