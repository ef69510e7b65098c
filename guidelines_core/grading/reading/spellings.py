r"""LaTeX's commands by what they do to an answer's look, and the names of functions in LaTeX and in ASCII."""

from __future__ import annotations

LAYOUT = frozenset(
    "left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr displaystyle textstyle limits "  # noqa: SIM905
    "scriptstyle scriptscriptstyle nolimits tiny small normalsize large Large LARGE huge Huge bf rm it sf tt sc em "
    "boldmath noindent centering mathstrut strut relax nonumber notag hline ensuremath mathop mathbin mathrel "
    "mathord mathopen mathclose protect smallskip medskip bigskip hfill hfil allowbreak nobreak checkmark blacksquare "
    "qedsymbol qed".split()
)
SPACES = frozenset("quad qquad enspace thinspace medspace thickspace space newline par ".split())  # noqa: SIM905
STYLES = frozenset(
    "mathbf mathit mathsf mathtt mathcal mathfrak mathscr boldsymbol bm pmb boxed fbox underline uline ul "  # noqa: SIM905
    "mathnormal symbf mathds smash framebox".split()
)
TEXTS = frozenset(
    "text textbf textit textrm textsf texttt textup textnormal textmd textsc textsl mathrm mbox hbox emph operatorname "  # noqa: SIM905
    "rm textcolor unit si".split()
)
STRUCK = frozenset("cancel bcancel xcancel sout st hcancel".split())  # noqa: SIM905
WITH_ARGUMENT = frozenset(
    "color colorbox fcolorbox rule raisebox hspace vspace phantom hphantom vphantom label tag mspace kern "  # noqa: SIM905
    "mkern".split()
)
ROWS = frozenset("align align* aligned alignat gather gather* gathered equation equation* split multline".split())  # noqa: SIM905
FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh coth ln log exp sqrt".split()  # noqa: SIM905
)
OTHER_NAMES = {"tg": "tan", "ctg": "cot", "arctg": "arctan", "arcctg": "arccot", "cosec": "csc", "asin": "arcsin",
               "acos": "arccos", "atan": "arctan", "lg": "lg"}  # fmt: skip
IN_ASCII = FUNCTIONS | set("abs floor ceil pi gcd lcm alpha beta theta infty asin acos atan".split())  # noqa: SIM905
