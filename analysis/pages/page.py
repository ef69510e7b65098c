"""One self-contained HTML page: text, tables and plots, light or dark as its reader's system is, nothing from outside.

Plots are matplotlib's SVG, put into the page itself: their text and axes take the page's colour of text, so one picture
does for light and dark. The colours of lines are Okabe and Ito's, told apart by the colour-blind.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.pages.tables import number

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette (2008) without black and yellow, which vanish on a dark and on a light page."""

STROKES = ("-", "--", ":")
"""Line styles, for when the colours are used up."""

_INK = "#424242"  # stands for the page's colour of text in a picture, and appears in no palette
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
_CSS = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #ffffff; --faint: #57606a; --line: #d0d7de; --wash: #f6f8fa;
  --good: #00664a; --bad: #a33f00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #14181e; --faint: #9da7b3; --line: #3a424c;
  --wash: #1f262e; --good: #3fc79a; --bad: #ff9b5c; } }
body { color: var(--ink); background: var(--paper); font: 15px/1.5 system-ui, sans-serif; max-width: 74rem;
  margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem;
  border-bottom: 1px solid var(--line); } h3 { font-size: 1rem; }
.lead, .caption { color: var(--faint); } .caption { font-size: .87rem; margin: .2rem 0 1rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .87rem; margin: .6rem 0; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top;
  font-variant-numeric: tabular-nums; overflow-wrap: break-word; max-width: 30rem; }
th { background: var(--wash); } th:first-child, td.words { text-align: left; }
tr > th:first-child { white-space: nowrap; }
pre { background: var(--wash); padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .84rem; }
.card pre { max-height: 22rem; overflow-y: auto; }
.plot svg { max-width: 100%; height: auto; } .good { color: var(--good); } .bad { color: var(--bad); }
.card { border: 1px solid var(--line); border-radius: 6px; padding: .2rem 1rem .6rem; margin: .8rem 0; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
"""


@dataclass(frozen=True)
class Section:
    """A heading and the pieces of HTML under it."""

    title: str
    parts: Sequence[str]


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Return the whole page; sections without parts are left out."""
    shown = [f"<h2>{escape(part.title)}</h2>\n" + "\n".join(part.parts) for part in sections if part.parts]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n' + "\n".join(shown) + "\n</body>\n</html>\n"
    )


def text(words: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(words)}</p>"


def code(lines: str) -> str:
    """Return a block of code, or of a model's own words, with its line breaks."""
    return f"<pre>{escape(lines)}</pre>"


def table(frame: pd.DataFrame, caption: str = "", digits: int = 4) -> str:
    """Return a table: the index as first column, numbers to `digits` significant digits, nothing for NaN."""
    head = "".join(f"<th>{escape(str(name))}</th>" for name in [frame.index.name or "", *frame.columns])
    body = "".join(
        f"<tr><th>{escape(str(index))}</th>" + "".join(_cell(value, digits) for value in values) + "</tr>\n"
        for index, values in zip(frame.index, frame.itertuples(index=False, name=None), strict=True)
    )
    below = f'<p class="caption">{escape(caption)}</p>' if caption else ""
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>{below}'


def facts(known: Mapping[str, object]) -> str:
    """Return a table of names and values, each value as it is written."""
    lines = "".join(
        f'<tr><th>{escape(name)}</th><td class="words">{escape(str(value))}</td></tr>\n'
        for name, value in known.items()
    )
    return f'<div class="wide"><table>{lines}</table></div>'


def _cell(value: object, digits: int) -> str:
    kind = ' class="words"' if isinstance(value, str) and not re.fullmatch(r"[\s\d.,%±e+\-\[\]()]*", value) else ""
    return f"<td{kind}>{escape(number(value, digits))}</td>"


def card(heading: str, sides: Sequence[tuple[str, bool | None, str]]) -> str:
    """Return a card: a heading over texts side by side, each with a title, and whether it is good (None: neither)."""
    marks = {True: "good", False: "bad", None: "lead"}
    columns = "".join(
        f'<div><b class="{marks[good]}">{escape(title)}</b>{code(words or "(nothing)")}</div>'
        for title, good, words in sides
    )
    return f'<div class="card"><p>{escape(heading)}</p><div class="sides">{columns}</div></div>'


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
    """Put the names of the lines in `axes` above the figure, where they hide none."""
    handles, names = axes.get_legend_handles_labels()
    if names:
        figure.legend(handles, names, loc="outside upper left", ncols=4, frameon=False, labelcolor=_INK)


def stroke(index: int) -> dict[str, str]:
    """Return colour and line style of the line `index`, no two alike for 18 lines."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": STROKES[index // len(COLOURS) % len(STROKES)]}


def plot(figure: Figure, caption: str) -> str:
    """Return a figure as a picture of the page, which `caption` describes to who cannot see it, too."""
    drawn = svg(figure)
    drawn = drawn[drawn.index("<svg") :].replace(_INK, "currentColor")
    drawn = drawn.replace("<svg", f'<svg role="img" aria-label="{escape(caption)}"', 1)
    return f'<div class="plot">{drawn}</div><p class="caption">{escape(caption)}</p>'


def svg(figure: Figure) -> str:
    """Return a figure as an SVG file's text."""
    file = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
