"""A journal read while it is written, and what counts of several attempts."""

from __future__ import annotations

import json
import math
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guidelines_core.runs.journal import LOGGED_AT, STEP, Entry, Journal, attempts, history, sanitized

VALUES = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9) | st.text(max_size=3)
LINES = st.lists(
    st.fixed_dictionaries({"step": st.integers(0, 9), "data": st.dictionaries(st.text(max_size=3), VALUES)}), max_size=5
)


@given(LINES, st.lists(st.integers(0, 200), max_size=8), st.booleans())
def test_every_line_is_read_once_however_its_bytes_arrive(
    lines: list[dict[str, object]], cuts: list[int], ascii_only: bool
) -> None:
    data = "".join(json.dumps(line, ensure_ascii=ascii_only) + "\n" for line in lines).encode()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    read = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "attempt-1.jsonl"
        path.touch()
        journal = Journal(path)
        for start, end in pairwise(places):
            with path.open("ab") as file:
                file.write(data[start:end])
            whole = data[:end].count(b"\n")
            read += list(journal.new())
            assert len(read) == whole
    assert read == lines


@st.composite
def runs(draw: st.DrawFn) -> list[list[Entry]]:
    """Return the entries of a run's attempts, each of which goes on from a step that an earlier one has done."""
    made: list[list[Entry]] = []
    done = 0
    for attempt in range(draw(st.integers(1, 4))):
        first = draw(st.integers(1, done + 1))
        entries = [Entry(first - 1, {"start/total": float(attempt)}, None)] if draw(st.booleans()) else []
        for step in range(first, first + draw(st.integers(0, 4))):
            entries.append(Entry(step, {STEP: float(step), "attempt": float(attempt)}, None))
            if draw(st.booleans()):
                entries.append(Entry(step, {"timing_s/save_checkpoint": float(attempt)}, None))
            done = step
        made.append(entries)
    return made


@given(runs())
def test_each_step_counts_once_as_the_last_attempt_that_trained_it_left_it(made: list[list[Entry]]) -> None:
    steps = [entry for entry in history(made) if STEP in entry.metrics]
    last: dict[int, int] = {}
    for number, entries in enumerate(made):
        trained = [entry.step for entry in entries if STEP in entry.metrics]
        if trained:
            last = {step: who for step, who in last.items() if step < trained[0]} | dict.fromkeys(trained, number)
    assert {entry.step: entry.metrics["attempt"] for entry in steps} == last
    assert [entry.step for entry in steps] == list(range(1, len(last) + 1))


@given(runs())
def test_no_entry_is_made_up_or_moved_and_an_attempt_that_trained_nothing_cuts_nothing(made: list[list[Entry]]) -> None:
    kept = history(made)
    written = [entry for entries in made for entry in entries]
    places = [next(place for place, entry in enumerate(written) if entry is one) for one in kept]
    assert places == sorted(set(places))
    trained = [entries for entries in made if any(STEP in entry.metrics for entry in entries)]
    assert [entry for entry in kept if STEP in entry.metrics] == [
        entry for entry in history(trained) if STEP in entry.metrics
    ]
    assert history([kept]) == kept


def test_attempts_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for number in (10, 9, 2):
        (tmp_path / f"logs/attempt-{number}.jsonl").touch()
    (tmp_path / "logs/attempt-2.log").touch()
    assert [path.stem for path in attempts(tmp_path)] == ["attempt-2", "attempt-9", "attempt-10"]


def test_an_entry_has_numbers_under_mlflows_names_and_when_it_was_logged(tmp_path: Path) -> None:
    path = tmp_path / "attempt-1.jsonl"
    data = {"val//mean@1": 0.5, "lost": None, "text": "x", LOGGED_AT: 12.5}
    path.write_text(json.dumps({"step": 3, "data": data}) + "\n")
    (entry,) = Journal(path).entries()
    assert (entry.step, entry.logged_at) == (3, 12.5)
    assert set(entry.metrics) == {"val/mean_at_1", "lost"}
    assert entry.metrics["val/mean_at_1"] == 0.5
    assert math.isnan(entry.metrics["lost"])


@pytest.mark.parametrize(
    ("name", "expected"), [("a/b:c d-e.f_g", "a/b:c d-e.f_g"), ("a//b", "a/b"), ("a@2", "a_at_2"), ("a(b)", "a_b_")]
)
def test_a_metric_has_the_name_that_mlflow_takes(name: str, expected: str) -> None:
    assert sanitized(name) == expected
