from __future__ import annotations

import pytest
from rich.console import Console

from analysis.bench.recording import Recorded, as_table, figures

STEPS = [Recorded(100.0, 20.0, 9.0), Recorded(110.0, 20.5, 0.1), Recorded(130.0, 20.9, 0.2)]


def test_shares_are_of_the_time_from_the_first_record_to_the_last() -> None:
    found = figures(STEPS, end_cpu_s=21.5)
    assert found["step_s"] == 15.0
    assert found["in_step_s"] == pytest.approx(0.15), "the first step's is before that time"
    assert found["beside_cpu_s"] == pytest.approx(0.45)
    assert found["end_cpu_s"] == pytest.approx(0.2), "spread over all three steps"
    assert found["share"] == pytest.approx(0.8 / 15)
    assert found["share"] == pytest.approx(sum(found[f"{name}_share"] for name in ("in_step", "beside_cpu", "end_cpu")))


def test_the_table_has_the_target() -> None:
    console = Console(width=120)
    with console.capture() as shown:
        console.print(as_table(figures(STEPS, 21.5)))
    assert "5.33% (wanted: 2% at most)" in shown.get()
    assert "0.450" in shown.get()
