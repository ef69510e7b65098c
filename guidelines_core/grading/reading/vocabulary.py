r"""The words of mathematics that the parser knows: relation signs, symbols, operators, brackets."""

from __future__ import annotations

MAX_DEPTH = 40
RELATIONS = {
    "=": "=", "<": "<", ">": ">", "le": "<=", "leq": "<=", "leqslant": "<=", "leqq": "<=", "lt": "<", "gt": ">",
    "ge": ">=", "geq": ">=", "geqslant": ">=", "geqq": ">=", "ne": "!=", "neq": "!=", "approx": "~", "simeq": "~",
    "doteq": "~", "equiv": "equiv", "cong": "cong", "sim": "sim", "in": "in", "notin": "notin", "subset": "subset",
    "subseteq": "subseteq", "supset": "supset", "to": "->", "rightarrow": "->", "Rightarrow": "=>", "implies": "=>",
    "iff": "<=>", "Leftrightarrow": "<=>", "mid": "mid", "nmid": "nmid", "parallel": "parallel", "perp": "perp",
    "propto": "propto", ":": ":", "colon": ":", "longrightarrow": "->", "mapsto": "->", "leftrightarrow": "<=>",
}  # fmt: skip
SYMBOLS = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho varrho sigma tau "  # noqa: SIM905
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar infty pi "
    "emptyset varnothing nabla partial aleph Re Im prime top bot imath jmath star ast dagger".split()
)
DOTS = frozenset("ldots cdots dots dotsc dotsb vdots dotso".split())  # noqa: SIM905
FRACTIONS = frozenset("frac dfrac tfrac cfrac nicefrac sfrac".split())  # noqa: SIM905
BINOMIALS = frozenset("binom dbinom tbinom".split())  # noqa: SIM905
ACCENTS = frozenset(
    "hat bar vec overline overrightarrow widehat tilde dot ddot widetilde overleftarrow overarc wideparen breve".split()  # noqa: SIM905
)
OPERATORS = frozenset(
    "sum prod int iint oint lim max min gcd lcm sup inf det deg dim ker arg bigcup bigcap limsup liminf oiint".split()  # noqa: SIM905
)
PREFIXES = frozenset("angle triangle measuredangle square odot sphericalangle parallelogram neg lnot".split())  # noqa: SIM905
APPLIED = frozenset("fghFGHPQ")  # letters that are functions before a bracket
CLOSES = {"(": ")]", "[": ")]", r"\{": r"\}", "{": "}"}
ENDS = {"lfloor": "rfloor", "lceil": "rceil", "langle": "rangle", "lvert": "rvert", "lVert": "rVert",
         "lbrace": "rbrace", "lbrack": "rbrack", "lgroup": "rgroup"}  # fmt: skip
ORDINALS = frozenset({"th", "st", "nd", "rd"})
BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
          "twelve": 12, "sixteen": 16, "binary": 2, "octal": 8, "hex": 16}  # fmt: skip
CONDITIONS = frozenset("for where with when if unless except provided given such while whenever".split())  # noqa: SIM905
NEEDLESS = frozenset("the only just simply exactly final answer is are so thus hence therefore".split())  # noqa: SIM905
MEASURES = frozenset(
    "length width height depth radius diameter area volume perimeter minimum maximum mean median".split()  # noqa: SIM905
)
