"""The pictures of the arms of `analysis.bench.learning`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.bench.learning_picture import GAINS, curves, lift, main
from guidelines_core.paths import ROOT

MEASURED = ROOT / "analysis/results/learning/gsm8k-0.5b.json"
ARMS = json.loads(MEASURED.read_text(encoding="utf-8"))["arms"]


def test_every_arm_is_in_every_panel_of_the_curves() -> None:
    drawn = curves(ARMS)
    assert [len({line.get_color() for line in panel.lines}) for panel in drawn.axes] == [len(ARMS)] * 4
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == [arm["name"] for arm in ARMS]
    (validated,) = [line for line in drawn.axes[1].lines if line.get_color() == "C0"]
    assert list(validated.get_ydata()) == [entry["accuracy"] for entry in ARMS[0]["validation"]["accuracy"]]  # type: ignore[arg-type]


def test_an_interval_is_drawn_from_its_low_to_its_high_end() -> None:
    intervals = [list(line.get_xdata()) for line in intervals_of(lift(ARMS))]  # type: ignore[arg-type]
    names = ("trained_over_untrained", "trained_over_none")
    assert intervals == [[arm[name]["low"], arm[name]["high"]] for arm in ARMS for name in names]


def intervals_of(figure: Figure) -> list[Line2D]:
    return [line for line in figure.axes[0].lines if line.get_linewidth() == 2]


def test_the_command_writes_both_pictures(tmp_path: Path) -> None:
    files = [tmp_path / "a/curves.png", tmp_path / "b/lift.png"]
    assert main([str(MEASURED), "--curves", str(files[0]), "--lift", str(files[1])]) == 0
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_another_file_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    file = tmp_path / "arms.json"
    file.write_text(text)
    assert main([str(file), "--curves", "a.png", "--lift", "b.png"]) == 2
    assert str(file) in capsys.readouterr().err


def test_arms_without_validation_and_lift_have_curves_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = [{key: value for key, value in arm.items() if key not in (*GAINS, "problems")} for arm in ARMS]
    file, drawn = tmp_path / "arms.json", tmp_path / "curves.png"
    file.write_text(json.dumps({"arms": [{**arm, "validation": {"accuracy": []}} for arm in kept]}))
    assert main([str(file), "--curves", str(drawn)]) == 0
    assert drawn.read_bytes().startswith(b"\x89PNG")
    assert main([str(file), "--curves", str(drawn), "--lift", str(tmp_path / "lift.png")]) == 2
    assert "has a lift; leave it out" in capsys.readouterr().err
