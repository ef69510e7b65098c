from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pandas as pd

from analysis.pages.page import (
    COLOURS,
    Section,
    card,
    code,
    facts,
    grid,
    heading,
    legend,
    page,
    plot,
    stroke,
    table,
    text,
)


def drawing() -> str:
    figure, axes = grid(4)
    for index in range(2):
        axes[0].plot([1, 2], [1, 2], label=f"run {index} <a&b>", **stroke(index))
    axes[0].set_title("reward & more")
    legend(figure, axes[0])
    return plot(figure, 'what "it" shows')


def test_a_page_needs_nothing_from_outside_and_is_well_formed() -> None:
    made = page("A & B", "lead", [Section("Plots", [drawing()]), Section("Nothing", []), Section("Words", [text("x")])])
    assert not re.findall(
        r"""(?:src|href)=["'](?!#)[^"']*["']|@import|url\((?!#)""", re.sub(r"xlink:href=\"#", "", made)
    )
    assert "<script" not in made
    assert "Nothing" not in made
    HTMLParser().feed(made)
    ElementTree.fromstring(made.replace("<!doctype html>", "").replace('<meta charset="utf-8">', "").replace(
        '<meta name="viewport" content="width=device-width, initial-scale=1">', ""
    ))  # fmt: skip


def test_a_models_words_cannot_become_markup() -> None:
    words = "<script>alert('1')</script> & \"x\""
    parts: dict[str, int] = {
        text(words): 1,
        heading(words, True): 1,
        code(words): 1,
        table(pd.DataFrame({words: [words]}, index=[words]), words): 4,
        facts({words: words}): 2,
        card(words, [(words, True, words)]): 3,
        plot(grid(1)[0], words): 2,
        page(words, words, [Section(words, [words])]): 5,
    }
    for made, places in parts.items():
        assert "<script>" not in made
        assert html.unescape(made).count(words) == made.count("&lt;script&gt;") == places


def test_a_plots_text_and_axes_take_the_pages_colour() -> None:
    drawn = drawing()
    assert "currentColor" in drawn
    # What is left are the lines' own colours and white, which is nowhere to be seen.
    left = {colour.upper() for colour in re.findall(r"(?:stroke|fill): (#[0-9a-fA-F]{6})", drawn)}
    assert left <= {colour.upper() for colour in COLOURS}
    assert 'aria-label="what &#34;it&#34; shows"' in drawn


def test_a_table_shows_numbers_shortly_and_nothing_for_what_is_missing() -> None:
    made = table(pd.DataFrame({"a": [0.123456, np.nan, 12345.6], "b": ["3.1 ± 2", "words", ""]}, index=list("xyz")))
    assert "<td>0.1235</td>" in made
    assert "<td></td>" in made
    assert "<td>12,346</td>" in made
    assert '<td class="words">words</td>' in made


def test_no_two_of_eighteen_lines_look_alike() -> None:
    assert len({tuple(stroke(index).items()) for index in range(18)}) == 18
