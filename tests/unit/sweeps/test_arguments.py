"""What the command line of a sweep may not ask for, and that stores are asked whether they can be reached."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import yaml

from guidelines_core.config.compose import ConfigError
from guidelines_core.hardware.shapes import gpus
from sweeps.arguments import range_findings, refuse
from sweeps.axes import BATCH, LAYOUT, RESPONSE
from sweeps.machine import Machine
from sweeps.space import Space
from tests.support.answering_server import answering_server
from tests.support.silent_server import silent_server

RIGHT = {"trials": 1, "steps": 1, "warm_up": 0, "workers": 1, "truncated": 0.05, "export": None, "storage": None}


def arguments(**other: Any) -> argparse.Namespace:
    return argparse.Namespace(**{**RIGHT, **other})


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"trials": 0}, "--trials=0: expected 1 or more"),
        ({"steps": 0}, "--steps=0: expected 1 or more"),
        ({"warm_up": -1}, "--warm-up=-1: expected 0 or more"),
        ({"workers": 0}, "--workers=0: expected 1 or more"),
        ({"truncated": 5.0}, "--truncated=5.0: expected a share from 0 to 1"),
        ({"export": "no/such"}, "--export no/such: expected an experiment's name"),
        ({"export": "../x"}, "--export ../x: expected an experiment's name"),
    ],
)
def test_an_argument_out_of_range_is_refused(given: dict[str, Any], sentence: str) -> None:
    assert list(range_findings(arguments())) == []
    (found,) = range_findings(arguments(**given))
    assert found.startswith(sentence)


def test_every_finding_is_said_and_each_dead_store_costs_one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its drivers may still have to be imported, on a busy machine.
    monkeypatch.setattr("guidelines_core.runs.stores.REACH_S", 2.0)
    with silent_server() as tracking, silent_server() as storage:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{tracking.port}")
        with pytest.raises(ConfigError) as refused:
            refuse(arguments(trials=0, storage=f"postgresql://me:secret@127.0.0.1:{storage.port}/optuna"))
        assert (tracking.connections(1), storage.connections(1)) == (1, 1)
    lines = str(refused.value).splitlines()
    assert [line.partition("=")[0].partition(" ")[0] for line in lines] == [
        "--trials",
        "MLFLOW_TRACKING_URI",
        "--storage",
    ]
    assert all("no answer within 2 s; " in line for line in lines[1:])
    assert lines[1].endswith("start that server, or unset it")
    assert "secret" not in str(refused.value)


def test_a_server_that_refuses_the_credentials_is_not_to_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering_server(401) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(ConfigError, match=r"HTTP status 401; set other credentials in [^;]*$"):
            refuse(arguments())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("axes: [", "it is not valid YAML"),
        ("\x00", "it is not valid YAML"),
        ("- a\n- b\n", "expected `axes`"),
        ("axes: {}\nlayout: [cpu]\n", "nothing else"),
        (yaml.safe_dump({"axes": {BATCH: ["a", "b"]}}), f"axis {BATCH}, value 'a': expected a whole number"),
        (yaml.safe_dump({"axes": {BATCH: [2.5, 4]}}), f"axis {BATCH}, value 2.5: expected a whole number"),
        (yaml.safe_dump({"axes": {BATCH: [True]}}), f"axis {BATCH}, value True: expected a whole number"),
        (yaml.safe_dump({"axes": {BATCH: [[2, 4]]}}), r"axis data.train_batch_size, value \[2, 4\]"),
        (yaml.safe_dump({"axes": {BATCH: [0, 4]}}), f"axis {BATCH}, value 0: expected 1 or more"),
        (yaml.safe_dump({"axes": {"algorithm.kl_ctrl.kl_coef": [float("nan")]}}), "expected a finite number"),
        (yaml.safe_dump({"axes": {LAYOUT: ["no-such"]}}), "axis layout, value no-such: expected one of 1p1, "),
        (yaml.safe_dump({"axes": {"data": [1]}}), "axis data: expected a key with one value"),
        (yaml.safe_dump({"axes": {"data..x": [1]}}), r"axis data\.\.x: there is no such key"),
        (yaml.safe_dump({"axes": {BATCH: list(range(1, 400)), RESPONSE: list(range(1, 400))}}), "points: expected"),
    ],
)
def test_a_broken_space_is_refused_in_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        Space.load(file, "tiny", (), Machine(0, gpus()["H100"]))
