"""The environment of a run's processes."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from guidelines_core.config.compose import compose
from guidelines_core.launch.environment import SOCKET, SOCKET_BYTES, of_run, temporary_root, without_proxy
from guidelines_core.launch.processes import TEMPORARY


def test_ray_counts_the_layouts_logical_gpus_and_not_those_that_a_variable_hides() -> None:
    for hidden in ("", "0"):
        variables = {"CUDA_VISIBLE_DEVICES": hidden}
        assert "CUDA_VISIBLE_DEVICES" not in of_run(compose("quickstart"), Path("/x"), variables)
        assert of_run(compose("gsm8k-1.5b"), Path("/x"), variables)["CUDA_VISIBLE_DEVICES"] == hidden


@pytest.mark.parametrize("path", [None, "", "/nowhere", "/nowhere:/usr/bin"])
def test_a_bare_path_still_finds_the_shell_that_ray_starts_its_workers_with(path: str | None) -> None:
    variables = {} if path is None else {"PATH": path}
    made = of_run(compose("quickstart"), Path("/x"), variables)
    assert subprocess.run(["bash", "-c", "true"], env=made).returncode == 0
    places = made["PATH"].split(":")
    assert len(places) == len(set(places))
    assert places[: len(path.split(":")) if path else 0] == (path.split(":") if path else [])


def test_a_long_temporary_folder_is_not_taken_because_sockets_have_short_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    root = temporary_root()
    assert root == "/tmp"
    path = f"{root}/{TEMPORARY}12345678{SOCKET}"
    assert len(path) <= SOCKET_BYTES
    with pytest.raises(OSError, match="too long"), socket.socket(socket.AF_UNIX) as one:
        one.bind(f"{long}/{TEMPORARY}12345678{SOCKET}")
    monkeypatch.setattr(tempfile, "tempdir", "/short")
    assert temporary_root() == "/short"
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert temporary_root() == str(long)


def test_this_machine_is_asked_without_the_environments_proxy() -> None:
    hosts = without_proxy({"NO_PROXY": "intern.example,10.0.0.0/8"}).split(",")
    assert hosts[:2] == ["intern.example", "10.0.0.0/8"]
    assert {"localhost", "127.0.0.1"} <= set(hosts)
    assert "" not in without_proxy({}).split(",")
