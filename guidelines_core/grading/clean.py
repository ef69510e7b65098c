r"""Cleaning: what changes an answer's look but not its meaning, and its characters in one alphabet.

`plain` works on text and never changes a number's value. Layout commands (`\left`, `\color{red}`, `\,`) are left to
the tokenizer, which knows where a command ends.
"""

from __future__ import annotations

import re
import unicodedata

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋ₙ", "0123456789+-n")
_SYMBOLS = {
    "\u2212": "-", "\u2013": "-", "\u2014": "-", "\u2010": "-", "\u2011": "-", "\u00d7": r"\times ",
    "\u00b7": r"\cdot ", "\u22c5": r"\cdot ", "\u2219": r"\cdot ", "\u00f7": r"\div ", "\u2217": "*", "\u2215": "/",
    "\u2044": "/", "\u00b1": r"\pm ", "\u2213": r"\mp ", "\u221a": r"\sqrt ", "\u221b": r"\sqrt[3]",
    "\u221e": r"\infty ", "\u2264": r"\le ", "\u2a7d": r"\le ", "\u2265": r"\ge ", "\u2a7e": r"\ge ",
    "\u2260": r"\ne ", "\u2248": r"\approx ", "\u2208": r"\in ", "\u2209": r"\notin ", "\u222a": r"\cup ",
    "\u2229": r"\cap ", "\u2216": r"\setminus ", "\u2205": r"\emptyset ", "\u00d8": r"\emptyset ",
    "\u2286": r"\subseteq ", "\u2282": r"\subset ", "\u211d": r"\mathbb{R}", "\u2124": r"\mathbb{Z}",
    "\u2115": r"\mathbb{N}", "\u211a": r"\mathbb{Q}", "\u2102": r"\mathbb{C}", "\u27e8": r"\langle ",
    "\u27e9": r"\rangle ", "\u2220": r"\angle ", "\u25b3": r"\triangle ", "\u00b0": r"^\circ ", "\u00ba": r"^\circ ",
    "\u02da": r"^\circ ", "\u2103": r"\text{ °C}", "\u2032": "'", "\u2033": "''", "\u2019": "'", "\u2018": "'",
    "\u201c": '"', "\u201d": '"', "\u2026": r"\ldots ", "\u22ef": r"\cdots ", "\u3001": ", ", "\u3002": ".",
    "\u2192": r"\to ", "\u21d2": r"\Rightarrow ", "\u03c6": r"\varphi ", "\u03d5": r"\phi ",
    "\u03b5": r"\varepsilon ", "\u03f5": r"\epsilon ", "\u230a": r"\lfloor ", "\u230b": r"\rfloor ",
    "\u2308": r"\lceil ", "\u2309": r"\rceil ", "\u2211": r"\sum ", "\u222b": r"\int ", "\u220f": r"\prod ",
    "\u6216": " or ", "\u548c": " and ", "\u4e0e": " and ", "\u53ca": " and ", "\u00a2": r"\text{ cents}",
    "\u3010": "[", "\u3011": "]", "\u2223": "|", "\u22a5": r"\perp ", "\u2225": r"\parallel ",
}  # fmt: skip
_FRACTION = re.compile(r"(\d?)([\u00bc-\u00be\u2150-\u215e])")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋ₙ]+")
_ROOT = re.compile(r"√\s*(\d+(?:\.\d+)?)")
_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER ([A-Z]+)")
_BOLD = re.compile(r"\*\*(.*\S)\*\*", re.DOTALL)
_EMPHASIZED = re.compile(r"\*([^*]+)\*")
_QUOTED = re.compile(r'"([^"]*)"|\'([^\']*)\'|``(.*)(?:\'\'|")|`([^`]+)`')
_ESCAPED_TWICE = re.compile(r"\\\\(?=[A-Za-z])")
_SYSTEM = re.compile(  # \left\{ \begin{array}{l} … \end{array} \right.
    r"\\left\s*\\(?:\{|lbrace)\s*\{?\s*\\begin\{(array|aligned|align\*?|matrix|gathered|split)\}\s*"
    r"(?:\{(?:[^{}]|\{[^{}]*\})*\})?((?:(?!\\begin).)*?)\\end\{\1\}\s*\}?\s*\\right\s*\.",
    re.DOTALL,
)
_FULL_STOP = re.compile(r"(?<!\.)\.$")
_IN_DOLLARS = re.compile(r"\$\$?([^$]+)(?<!\\)\$\$?|\\\((.+)\\\)|\\\[(.+)\\\]", re.DOTALL)

_AROUND = (_IN_DOLLARS, _BOLD, _EMPHASIZED, _QUOTED)


def plain(latex: str) -> str:
    """Return the answer in ASCII and LaTeX, without what stands around it (`$`, quotes, bold marks, a full stop)."""
    if "\\\\" in latex and "\\begin" not in latex:
        latex = _ESCAPED_TWICE.sub(r"\\", latex)
    latex = _SYSTEM.sub(r"\\begin{cases}\2\\end{cases}", latex) if "\\begin" in latex else latex
    latex = in_latex(latex) if _NOT_ASCII.search(latex) else latex
    for _ in range(3):
        latex = _FULL_STOP.sub("", latex.strip()).strip()
        if latex.endswith("\\") and not latex.endswith("\\\\"):  # of a space that was stripped
            latex = latex[:-1].rstrip()
        if latex.endswith((",", ";")) and not latex.endswith("\\" + latex[-1]):
            latex = latex[:-1].rstrip()
        match = next((found for one in _AROUND if (found := one.fullmatch(latex))), None)
        if not match:
            break
        latex = next((part for part in match.groups() if part), "")
    return latex


def in_latex(text: str) -> str:
    """Return the text with mathematical Unicode characters spelled in ASCII and LaTeX."""
    text = _ROOT.sub(r"\\sqrt{\1}", text)
    text = _RAISED.sub(lambda run: "^{" + run[0].translate(_SUPERSCRIPTS) + "}", text)
    text = _LOWERED.sub(lambda run: "_{" + run[0].translate(_SUBSCRIPTS) + "}", text)
    text = _FRACTION.sub(_fraction, text)
    return _NOT_ASCII.sub(lambda character: _spelling(character[0]), text)


def _fraction(match: re.Match[str]) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", match[2]).partition("\u2044")
    return rf"{match[1]}\frac{{{top}}}{{{bottom}}}"


def _spelling(character: str) -> str:
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    if greek := _GREEK.fullmatch(unicodedata.name(character, "")):
        name = greek[2].lower().replace("lamda", "lambda")
        return "\\" + (name if greek[1] == "SMALL" else name.capitalize()) + " "
    if "\uff01" <= character <= "\uff5e":  # full-width forms
        return {"\uff0c": ", ", "\uff1b": "; "}.get(character, chr(ord(character) - 0xFEE0))
    if unicodedata.category(character) == "Zs":
        return " "
    return "" if unicodedata.category(character) in ("Cf", "Cs") else character
