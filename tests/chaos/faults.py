"""Rows that kill processes, break checkpoints, or take the store, the disk or the clock away."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from guidelines_core.paths import ROOT
from guidelines_core.runs.claim import claim
from guidelines_core.runs.claim_file import ClaimError
from tests.chaos.loop import SAVE_FREQ, TARGETS, Loop, hit
from tests.chaos.outcomes import Row, own_disk, resize, resumed, undisturbed

MOMENTS = ("starting", "in a step", "in a step", "writing a checkpoint")
TWO_STARTS = "two starts at once x50"
JUMPING_CLOCK = """
import time
real, real_ns = time.time, time.time_ns
def offset():
    with open({offset!r}) as file:
        return float(file.read() or 0)
time.time = lambda: real() + offset()
time.time_ns = lambda: real_ns() + int(offset() * 1e9)
"""
FAILING_EXTENSION = "tests.support.failing_engine.FailingExtension"
MODEL_SHARD = "actor/model_world_size_1_rank_0.pt"


def rows(seed: int, kills: int) -> dict[str, Callable[[Loop, Any], Row]]:
    """Return every row by its name, in the order in which they are done."""
    return {
        **{f"kill {number}": partial(kill, f"{seed}/{number}") for number in range(kills)},
        "killed as it takes weights": taking_weights,
        "fails as it takes weights": failing_to_take_weights,
        "truncated checkpoint": partial(broken, truncate),
        "flipped bit": partial(broken, flip_a_bit),
        "missing file": partial(broken, Path.unlink),
        "server restarted": server_restarted,
        "read-only store": read_only_store,
        "clock jumps": clock_jumps,
        "full disk": full_disk,
        TWO_STARTS: two_starts,
    }


def kill(seed: str, loop: Loop, expected: Any) -> Row:
    """Kill one process of a run, drawn from `seed`, and resume."""
    draw = random.Random(seed)
    target, moment = draw.choice(list(TARGETS)), draw.choice(MOMENTS)
    loop.start()
    killed = hit(loop, target, moment, draw)
    code = loop.wait()
    return {
        "what": f"SIGKILL to {target}",
        "when": moment,
        **(killed or {}),
        **resumed(loop, expected, code, killed),
    }


def taking_weights(loop: Loop, expected: Any) -> Row:
    """Kill the rollout server while the training process sends it weights, and resume."""
    loop.start()
    loop.until(lambda: loop.steps_done() == 2)
    (server,), (sender,) = loop.processes()["rollout server"], loop.processes()["actor"]
    # Ray puts an actor's current method into its process title.
    sending = loop.until(lambda: "update_weights" in " ".join(sender.cmdline()), pause=0.0)
    server.kill()
    code = loop.wait()
    row = resumed(loop, expected, code, sending)
    return {"what": "SIGKILL to rollout server", "when": "taking weights", **row}


def failing_to_take_weights(loop: Loop, expected: Any) -> Row:
    """Have the rollout engine raise an error while the training process sends it weights, and resume."""
    loop.overrides = {
        "actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls": FAILING_EXTENSION,
        "+guidelines.environment.FAULTS": loop.folder,
    }
    loop.start()
    code = loop.wait()
    row = resumed(loop, expected, code, (loop.folder / "engine-failed").exists())
    passed = row["passed"] and "no memory for the weights" in row["reason"]
    return {"what": "an error in the rollout engine", "when": "taking weights", **row, "passed": passed}


def broken(breakage: Callable[[Path], object], loop: Loop, expected: Any) -> Row:
    """Kill a run after its fourth step's checkpoint, break that checkpoint, and resume."""
    loop.start()
    loop.until(lambda: loop.checkpoint() == 4)
    assert loop.process is not None
    loop.process.kill()
    code = loop.wait()
    breakage(loop.directory / "global_step_4" / MODEL_SHARD)
    # The checkpoint's own steps are lost, besides those after it.
    row = resumed(loop, expected, code, may_lose=2 * SAVE_FREQ)
    return {
        "what": "the newest checkpoint broken",
        "when": "between two starts",
        **row,
        "passed": row["passed"] and loop.refused("global_step_4"),
    }


def truncate(path: Path) -> None:
    """Cut a file to half its length."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def flip_a_bit(path: Path) -> None:
    """Change one bit in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))


def server_restarted(loop: Loop, expected: Any) -> Row:
    """Kill the MLflow server that a run is recorded in after its second step, and start it again after its fourth."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store = f"sqlite:///{loop.folder / 'server.db'}"
    artifacts = f"--artifacts-destination={loop.folder / 'artifacts'}"
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    command += [f"--backend-store-uri={store}", artifacts]
    with (loop.folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        loop.uri = f"http://127.0.0.1:{port}"
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            time.sleep(0.2)
        try:
            loop.start()
            loop.until(lambda: loop.steps_done() >= 2)
            end_session(server)
            loop.until(lambda: loop.steps_done() >= 4)
            server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            code = loop.wait()
            return {"what": "MLflow server killed", "when": "from step 2 to 4", **undisturbed(loop, expected, code)}
        finally:
            end_session(server)


def end_session(server: subprocess.Popen[bytes]) -> None:
    """Kill a server with the workers of its session."""
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def read_only_store(loop: Loop, expected: Any) -> Row:
    """Make the store read-only from the second step to the fourth.

    A mount cannot be made so while the database is open; a file that may not be changed refuses writers that have it
    open, too.
    """
    store = loop.folder / "store"
    store.mkdir()
    loop.uri = f"sqlite:///{store / 'mlflow.db'}"
    loop.start()
    loop.until(lambda: loop.steps_done() >= 2)
    subprocess.run(["chattr", "-R", "+i", str(store)], check=True)
    try:
        loop.until(lambda: loop.steps_done() >= 4)
        unrecorded = loop.unrecorded()
    finally:
        subprocess.run(["chattr", "-R", "-i", str(store)], check=True)
    code = loop.wait()
    row = undisturbed(loop, expected, code)
    return {
        "what": "store read-only",
        "when": "from step 2 to 4",
        **row,
        "unrecorded_meanwhile": unrecorded,
        "passed": row["passed"] and unrecorded > 0,
    }


def clock_jumps(loop: Loop, expected: Any) -> Row:
    """Set the clock of the run's Python processes an hour forward after its second step, then a day back."""
    offset = loop.folder / "offset"
    offset.write_text("0")
    (loop.folder / "sitecustomize.py").write_text(JUMPING_CLOCK.format(offset=str(offset)))
    loop.environment = {"PYTHONPATH": os.pathsep.join([str(loop.folder), str(ROOT)])}
    loop.start()
    for step, jump in ((2, "3600"), (3, "-86400")):
        loop.until(lambda step=step: loop.steps_done() >= step)  # type: ignore[misc]
        offset.write_text(jump)
    code = loop.wait()
    times = [entry.logged_at for entry in loop.history() if entry.logged_at is not None]
    row = undisturbed(loop, expected, code)
    jumped = max(times) - min(times) > 86400
    return {"what": "clock jumps", "when": "after steps 2 and 3", **row, "passed": row["passed"] and jumped}


def full_disk(loop: Loop, expected: Any) -> Row:
    """Give the checkpoint directory so small a disk that the second checkpoint fills it, then a larger one."""
    with own_disk(loop) as disk:
        loop.start()
        loop.until(lambda: loop.checkpoint() == SAVE_FREQ)
        used = shutil.disk_usage(disk).used
        resize(disk, str(int(used * 1.4)))
        code = loop.wait()
        resize(disk, "2g")
        row = resumed(loop, expected, code)
        full = " is full; " in row["reason"]
        return {"what": "disk full", "when": "writing a checkpoint", **row, "passed": row["passed"] and full}


def two_starts(loop: Loop, expected: Any, times: int = 50) -> Row:
    """Let two processes claim one directory in the same moment, many times over."""
    del expected
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["guidelines_core.runs.claim", "mlflow.store.tracking.sqlalchemy_store"])
    wrong = []
    for number in range(times):
        barrier, said = context.Barrier(2), context.Queue()
        words = (loop.uri, str(loop.folder / f"claimed-{number}"), barrier, said)
        racers = [context.Process(target=race, args=words) for _ in range(2)]
        for racer in racers:
            racer.start()
        outcomes = sorted(said.get(timeout=120) for _ in racers)
        for racer in racers:
            racer.join()
        if outcomes != ["claimed", "refused"]:
            wrong.append(outcomes)
    return {
        "what": f"two starts, {times} times",
        "when": "at the claim",
        "wrong": wrong,
        "recovered": not wrong,
        "passed": not wrong,
    }


def race(uri: str, directory: str, barrier: Any, said: Any) -> None:
    """Claim `directory` when the other is ready, too, and say how it went; the claim ends when both have tried."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    trainer = {"default_local_dir": directory, "experiment_name": Path(directory).name, "project_name": "chaos"}
    config = OmegaConf.create({"trainer": trainer})
    barrier.wait()
    try:
        run = claim(config, resume=False, new=False)
    except ClaimError:
        said.put("refused")
        barrier.wait()
    else:
        said.put("claimed")
        barrier.wait()
        run.release()
