"""What a run hands to the workers of a Ray cluster that was there before it."""

from __future__ import annotations

from guidelines_core.config.compose import compose
from guidelines_core.launch.cluster import worker_environment
from guidelines_core.runs.journal import STOP_FILE
from guidelines_core.runs.start import START


def test_workers_get_what_the_run_needs_and_no_secret() -> None:
    config = compose("tiny", ["layout=cpu-2p1-x2"], environ={})
    environ = {
        "HF_TOKEN": "secret",
        "MLFLOW_TRACKING_URI": "postgresql://me:secret@host/db",
        "TMPDIR": "/tmp/x",
        START: "{}",
        STOP_FILE: "/run/attempt-1.stop",
    }
    found = worker_environment(config, environ)
    settings = {name: str(value) for name, value in config.guidelines.environment.items()}
    assert found == {START: "{}", STOP_FILE: "/run/attempt-1.stop", **settings}
    assert settings["VERL_PLATFORM"] == "cpu"
