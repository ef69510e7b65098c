"""Runs `inside.py` with the environment of the run's processes, in parallel to preflight's other checks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from guidelines_core.paths import ROOT
from guidelines_core.preflight.findings import Finding, error, warning
from guidelines_core.runs.stores import tracking_uri

SECONDS = 60.0
"""The probe's time limit, against checks that hang: imports from a cold disk have taken more than 18 s."""


class Probe:
    """The probe's process, which runs in parallel to preflight's other checks."""

    def __init__(self, config: DictConfig, *, dry_run: bool, store: str | None = None) -> None:
        """Start the process; `store` is the MLflow store to check, by default this machine's."""
        self._began = time.monotonic()
        self._folder = tempfile.TemporaryDirectory(prefix="preflight-")
        OmegaConf.save(config, Path(self._folder.name) / "config.yaml")
        environment = {
            **os.environ,
            **dict(config.guidelines.environment),
            "MLFLOW_TRACKING_URI": store or tracking_uri(),
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
            "HF_HUB_ETAG_TIMEOUT": "5",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "PREFLIGHT_DRY_RUN": str(int(dry_run)),
        }
        self._log = (Path(self._folder.name) / "log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "guidelines_core.preflight.inside", self._folder.name],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def end(self) -> None:
        """Kill the process and discard its findings."""
        self._process.kill()
        self._process.wait()
        self._log.close()
        self._folder.cleanup()

    def findings(self) -> list[Finding]:
        """Wait for the process, at most `SECONDS` from its start, and return its findings."""
        late = False
        try:
            self._process.wait(max(0.1, SECONDS - (time.monotonic() - self._began)))
        except subprocess.TimeoutExpired:
            late = True
            self._process.kill()
            self._process.wait()
            self._log.write(f"\nit took more than {SECONDS:.0f} s, on a machine that is busy or a network that hangs\n")
        file = Path(self._folder.name) / "findings.json"
        read = [Finding(**entry) for entry in map(json.loads, file.read_text().splitlines())] if file.exists() else []
        if self._process.returncode != 0:
            self._log.seek(0)
            last = (self._log.read().strip().splitlines() or ["it printed nothing"])[-1]
            read.append(
                (warning if late else error)(
                    "preflight",
                    f"exit code {self._process.returncode}",
                    f"a check did not end: {last}",
                    "the run may fail for what was not checked",
                )
            )
        self._log.close()
        self._folder.cleanup()
        return read
