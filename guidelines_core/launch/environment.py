"""The environment of a run's processes, and the folder for everything temporary."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psutil
from omegaconf import DictConfig, OmegaConf

from guidelines_core.launch.processes import TEMPORARY
from guidelines_core.paths import ROOT
from guidelines_core.runs.start import FOLDER

SOCKET_BYTES = 107
"""The longest path that a socket can have (`sun_path` in `unix(7)`)."""

SOCKET = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""What Ray puts behind its own folder."""

PROGRAMS = ("/usr/local/bin", "/usr/bin", "/bin")
"""Where a shell and a compiler are looked for besides PATH: Ray starts its workers through bash."""


def temporary_root() -> str:
    """Return where an attempt's folder is made: the machine's own place, or /tmp where that is too long for sockets."""
    wanted = tempfile.gettempdir()
    return wanted if has_room_for_sockets(wanted) or not os.access("/tmp", os.W_OK | os.X_OK) else "/tmp"


def has_room_for_sockets(root: str) -> bool:
    """Say whether Ray's sockets can lie in an attempt's folder under `root`."""
    return len(os.fsencode(f"{root}/{TEMPORARY}12345678{SOCKET}")) <= SOCKET_BYTES


def of_run(config: DictConfig, folder: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of the processes of an attempt that has `folder`."""
    kept = dict(environ)
    if OmegaConf.select(config, "trainer.device") == "cpu":
        # Ray takes the layout's logical GPUs for NVIDIA's and starts no more than this variable lists.
        kept.pop("CUDA_VISIBLE_DEVICES", None)
    path = kept.get("PATH", "").split(os.pathsep)
    return {
        **kept,
        **dict(config.guidelines.environment),
        FOLDER: str(folder),
        "PATH": os.pathsep.join([*filter(None, path), *(place for place in PROGRAMS if place not in path)]),
        # Sockets, locks and logs, which are left when a process is killed; Ray's logs of a session are
        # hundreds of megabytes a day. Caches stay in the machine's own folder.
        "TMPDIR": str(folder),
        **({"RAY_TMPDIR": str(folder)} if own_cluster(config) else {}),
        "TORCHINDUCTOR_CACHE_DIR": kept.get(
            "TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"torchinductor_{os.getuid()}")
        ),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        # Files are UTF-8, whatever the terminal's encoding.
        "PYTHONUTF8": "1",
        # vLLM's HTTP server imports a package that sets the root logger to ERROR unless this says otherwise
        # (model_hosting_container_standards/logging_config.py), which hides every warning of the process.
        "SAGEMAKER_CONTAINER_LOG_LEVEL": kept.get("SAGEMAKER_CONTAINER_LOG_LEVEL", "WARNING"),
        **dict.fromkeys(("no_proxy", "NO_PROXY"), without_proxy(kept)),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray would have its workers, which do all the work, wait for everything else on the machine.
        "RAY_worker_niceness": "0",
        # Ray would start an idle interpreter for each core that it was told of, beside the run's own processes.
        "RAY_prestart_worker_first_driver": "0",
    }


def own_cluster(config: DictConfig) -> bool:
    """Say whether the run starts a Ray cluster of its own and joins none."""
    return str(OmegaConf.select(config, "ray_kwargs.ray_init.address", default="local")) == "local"


def without_proxy(environ: Mapping[str, str]) -> str:
    """Return the hosts that are not asked through the environment's proxy: its own list, and this machine."""
    own = [each.address for found in psutil.net_if_addrs().values() for each in found if each.family == socket.AF_INET]
    listed = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    names = [*filter(None, listed.split(",")), "localhost", "::1", socket.gethostname(), *own]
    return ",".join(dict.fromkeys(names))
