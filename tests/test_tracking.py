from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from guidelines_core.paths import ROOT
from guidelines_core.tracking import ClaimError, claim


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DictConfig:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return OmegaConf.create(
        {
            "trainer": {
                "default_local_dir": str(tmp_path / "checkpoints" / "name"),
                "experiment_name": "name",
                "project_name": "project",
            }
        }
    )


def test_a_claim_is_recorded_in_the_run_and_in_the_directory(config: DictConfig) -> None:
    run = claim(config, resume=False, new=False)
    recorded = json.loads((run.directory / "claim.json").read_text())
    assert recorded["run_id"] == run.claim.run_id
    assert run.client.get_run(run.claim.run_id).data.tags["guidelines.checkpoints"] == str(run.directory)


def test_a_directory_in_use_is_refused_even_to_a_resume(config: DictConfig) -> None:
    held = claim(config, resume=False, new=False)
    with pytest.raises(ClaimError, match="alive"):
        claim(config, resume=True, new=False)
    held.release()


def test_a_taken_name_is_refused_and_new_stands_beside_it(config: DictConfig) -> None:
    first = claim(config, resume=False, new=False)
    first.finish("FINISHED", "done", first.directory / "claim.json")
    first.release()
    with pytest.raises(ClaimError, match=r"FINISHED.*\n.*--resume.*--new"):
        claim(config, resume=False, new=False)
    second = claim(config, resume=False, new=True)
    assert second.claim.run_name == "name-2"
    assert second.claim.run_id != first.claim.run_id
    assert config.trainer.default_local_dir == str(second.directory)


def test_a_resume_is_the_same_run_and_a_stale_running_is_corrected(config: DictConfig) -> None:
    first = claim(config, resume=False, new=False)
    assert first.status == "RUNNING"
    first.release()
    again = claim(config, resume=True, new=False)
    assert again.claim.run_id == first.claim.run_id
    assert again.status == "FAILED"


def test_a_directory_of_nobody_is_refused(config: DictConfig) -> None:
    Path(config.trainer.default_local_dir).mkdir(parents=True)
    with pytest.raises(ClaimError, match="belongs to no run"):
        claim(config, resume=True, new=False)


def test_of_several_starts_in_the_same_moment_one_wins(config: DictConfig, tmp_path: Path) -> None:
    claim(config, resume=False, new=True).release()
    wanted = str(tmp_path / "checkpoints" / "race")
    code = (
        "import sys, time\n"
        "from omegaconf import OmegaConf\n"
        "from guidelines_core.tracking import ClaimError, claim\n"
        "trainer = dict(default_local_dir=sys.argv[1], experiment_name='race', project_name='project')\n"
        "sys.stdin.readline()\n"
        "try:\n"
        "    print(claim(OmegaConf.create(dict(trainer=trainer)), resume=False, new=False).claim.run_id)\n"
        "    time.sleep(3)\n"
        "except ClaimError:\n"
        "    print('refused')\n"
    )
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", code, wanted],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for start in starts:
        assert start.stdin
        start.stdin.write("go\n")
        start.stdin.flush()
    said = [start.communicate()[0].strip() for start in starts]
    assert said.count("refused") == 3, said
