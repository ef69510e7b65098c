"""One self-contained HTML page: text, tables and plots, in the reader's light or dark scheme.

Plots are SVG of matplotlib inside the page. Their text and axes have the page's text color, so one picture serves both
schemes. The lines' colors are Okabe and Ito's, which color-blind readers can distinguish.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import matplotlib
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.pages.tables import number

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette (2008) without black and yellow, which are invisible on a dark or a light page."""

STROKES = ("-", "--", ":")
"""Line styles, for more lines than colors."""

_INK = "#424242"  # replaced by the page's text color; not in the palette
_STYLE = {
    "axes.edgecolor": _INK,
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "small",
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.alpha": 0.2,
    "grid.color": _INK,
    "legend.frameon": False,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "page",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_MARKS = {True: "good", False: "bad", None: "lead"}
"""The CSS class of a text, by whether it is good (None: neither)."""

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)
_PARTS = _TEMPLATES.get_template("parts.html").module


@dataclass(frozen=True)
class Section:
    """A heading and the parts under it; a part that is plain text is escaped."""

    title: str
    parts: Sequence[str]


def page(title: str, lead: str, sections: Sequence[Section], reload_s: int | None = None) -> str:
    """Return the whole page; sections without parts are left out. A browser loads it again every `reload_s` seconds."""
    return _TEMPLATES.get_template("page.html").render(title=title, lead=lead, sections=sections, reload_s=reload_s)


def text(words: str) -> Markup:
    """Return a paragraph."""
    return _part("text", words)


def heading(words: str, good: bool) -> Markup:
    """Return a heading of the third level, marked as good or bad."""
    return _part("heading", words, _MARKS[good])


def code(lines: str) -> Markup:
    """Return a block of code or of a model's text, with its line breaks."""
    return _part("code", lines)


def table(frame: pd.DataFrame, caption: str = "", digits: int = 4) -> Markup:
    """Return a table: the index as first column, numbers to `digits` significant digits, nothing for NaN."""
    lines = zip(frame.index, frame.itertuples(index=False, name=None), strict=True)
    rows = [(index, [(number(value, digits), _in_words(value)) for value in values]) for index, values in lines]
    return _part("table", [frame.index.name or "", *frame.columns], rows, caption)


def facts(known: Mapping[str, object]) -> Markup:
    """Return a table of names and values."""
    return _part("facts", list(known.items()))


def card(heading: str, sides: Sequence[tuple[str, bool | None, str]]) -> Markup:
    """Return a card: a heading over texts side by side, each with a title and a mark (None: neither good nor bad)."""
    return _part("card", heading, [(title, _MARKS[good], words) for title, good, words in sides])


def changes(pieces: Sequence[tuple[str, str]]) -> Markup:
    """Return a text whose pieces are `same`, `added` or `removed`, for a block of code or the side of a card."""
    return _part("changes", pieces)


def _part(macro: str, *values: object) -> Markup:
    """Return the output of a macro of `parts.html`, which escapes `values`."""
    made: Markup = getattr(_PARTS, macro)(*values)
    return made


def _in_words(value: object) -> bool:
    """Return whether a table's cell is text, which is aligned to the left."""
    return isinstance(value, str) and not re.fullmatch(r"[\s\d.,%±e+\-\[\]()]*", value)


def grid(count: int, columns: int = 3, height: float = 2.5, width: float = 3.9) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` plots in rows of `columns`, and the plots; sizes of a plot in inches."""
    columns = min(columns, count)
    lines = -(-count // columns)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width * columns, height * lines))
        axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def legend(figure: Figure, axes: Axes) -> None:
    """Put the names of the lines in `axes` above the figure."""
    handles, names = axes.get_legend_handles_labels()
    if names:
        figure.legend(handles, names, loc="outside upper left", ncols=4, frameon=False, labelcolor=_INK)


def stroke(index: int) -> dict[str, str]:
    """Return color and line style of the line `index`, different for 18 lines."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": STROKES[index // len(COLOURS) % len(STROKES)]}


def plot(figure: Figure, caption: str) -> Markup:
    """Return a figure as a picture of the page; `caption` also describes it to screen readers."""
    _, _, drawn = svg(figure).partition("<svg")
    return _part("plot", Markup(drawn.replace(_INK, "currentColor")), caption)


def svg(figure: Figure) -> str:
    """Return a figure as an SVG file's text."""
    file = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
