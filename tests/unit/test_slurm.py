"""The batch script, as bash runs it, with stand-ins for the run and for Slurm's `scontrol`."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from guidelines_core.paths import ROOT

SCRIPT = ROOT / "experiments/slurm/train.sbatch"
TWO_NODES = ROOT / "experiments/slurm/train-two-nodes.sbatch"

RUN = """#!/bin/bash
trap 'echo asked >> signals; exit "$AFTER_TERM"' TERM
printf '%s\\n' "$HF_HUB_OFFLINE" "$@" > called
[[ $WAITS ]] || exit "$CODE"
while :; do sleep 0.05; done
"""


def project(folder: Path, held: str | None) -> Path:
    """Make a project whose environment holds the set `held`, with the stand-ins."""
    (folder / ".venv/bin").mkdir(parents=True)
    if held is not None:
        (folder / ".venv/.set").write_text(f"{held}\n")
    for path, text in ((".venv/bin/python", RUN), ("scontrol", '#!/bin/bash\necho "$@" > requeued\n')):
        (folder / path).write_text(text)
        (folder / path).chmod(0o755)
    return folder


def started(folder: Path, **environment: str) -> subprocess.Popen[str]:
    variables = {**os.environ, "SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_ID": "17", **environment}
    variables["PATH"] = f"{folder}:{variables['PATH']}"
    variables.pop("HF_HUB_OFFLINE", None)
    return subprocess.Popen(
        ["bash", str(SCRIPT), "quickstart", "data.seed=1"], env=variables, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("held", [None, "cpu"])
def test_without_the_gpu_set_the_command_that_makes_it_is_said(tmp_path: Path, held: str | None) -> None:
    job = started(project(tmp_path, held))
    _, said = job.communicate(timeout=20)
    assert job.returncode == 2
    assert "run `make install-gpu PYTHON=python3.12` there first" in said
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_run_that_ends_by_itself_is_not_put_back(tmp_path: Path, code: int) -> None:
    job = started(project(tmp_path, "gpu"), CODE=str(code))
    job.communicate(timeout=20)
    assert job.returncode == code
    assert not (tmp_path / "requeued").exists()
    words = ["1", "experiments/run.py", "--name", "quickstart", "data.seed=1", "--resume"]
    assert (tmp_path / "called").read_text().splitlines() == words


@pytest.mark.parametrize(("code", "requeued"), [(130, True), (0, False), (1, False), (2, False)])
def test_only_a_run_that_was_interrupted_is_put_back(tmp_path: Path, code: int, requeued: bool) -> None:
    job = started(project(tmp_path, "gpu"), WAITS="1", AFTER_TERM=str(code))
    deadline = time.monotonic() + 20
    while not (tmp_path / "called").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=20)
    assert job.returncode == code
    assert (tmp_path / "signals").read_text() == "asked\n"
    assert (tmp_path / "requeued").exists() == requeued
    if requeued:
        assert (tmp_path / "requeued").read_text() == "requeue 17\n"


def test_two_nodes_form_a_ray_cluster_that_the_run_joins(tmp_path: Path) -> None:
    folder = project(tmp_path, "gpu")
    (folder / "experiments/slurm").mkdir(parents=True)
    (folder / "experiments/slurm/train.sbatch").write_text(SCRIPT.read_text())
    for path, text in (
        # What is printed line by line must be read to its end: the script ends if a command in a pipe cannot write.
        (
            ".venv/bin/ray",
            '#!/bin/bash\nif [[ $1 == start ]]; then echo "$@" >> ray; exit; fi\n'
            "echo Usage:; sleep 0.05; echo ' 0.0/8.0 GPU'; sleep 0.05; echo ' 0B/9GiB memory'\n",
        ),
        (
            "srun",
            "#!/bin/bash\n"
            'while [[ $1 == --* ]]; do [[ $1 == --nodelist=* ]] && echo "on ${1#*=}" >> ray; shift; done\n"$@"\n',
        ),
        ("scontrol", "#!/bin/bash\n[[ $1 == show ]] || exit 1\necho first; sleep 0.05; echo second\n"),
    ):
        (folder / path).write_text(text)
        (folder / path).chmod(0o755)
    of_job = {"SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "n[1-2]",
              "HOME": str(folder)}  # fmt: skip
    variables = {**os.environ, **of_job, "PATH": f"{folder}:{os.environ['PATH']}", "CODE": "0"}
    done = subprocess.run(
        ["bash", str(TWO_NODES), "quickstart", "data.seed=1"], env=variables, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    address, common = "first:23456", "--num-cpus=64 --disable-usage-stats --block"
    started = (folder / "ray").read_text().splitlines()
    assert sorted(started) == sorted([
        "on first", f"start --head --port=23456 --include-dashboard=false {common}",
        "on second", f"start --address={address} {common}",
    ])  # fmt: skip
    words = ["layout=hybrid-3p1-x2", f"ray_kwargs.ray_init.address={address}", "data.seed=1", "--resume"]
    called = (folder / "called").read_text().splitlines()
    assert called[1:] == ["experiments/run.py", "--name", "quickstart", *words]
