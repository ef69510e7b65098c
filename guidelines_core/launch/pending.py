"""Records what Ray has not placed yet while a run starts, which Ray does not log."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guidelines_core.launch.start_watch import PENDING_FILE
from guidelines_core.runs.start import FOLDER

EVERY_S = 5.0


def record_pending() -> None:
    """Write what Ray has not placed to the attempt's folder every `EVERY_S` seconds, from a thread of Ray's driver."""
    threading.Thread(
        target=_write_file, args=(Path(os.environ[FOLDER]) / PENDING_FILE,), name="pending", daemon=True
    ).start()


def _write_file(file: Path) -> None:
    import ray
    from ray._private.state import actors

    while file.parent.is_dir():
        time.sleep(EVERY_S)
        if ray.is_initialized():
            waiting = actors(actor_state_name="PENDING_CREATION")
            text = unplaced(
                ray.util.placement_group_table().values(),
                [actor["ActorClassName"] for actor in waiting.values()],
                ray.cluster_resources(),
                ray.available_resources(),
            )
            file.write_text(text)


def unplaced(groups: Any, actors: list[str], total: Mapping[str, float], free: Mapping[str, float]) -> str:
    """Return what is not placed and what the cluster has, as text; empty if everything is placed.

    Args:
        groups: Ray's placement groups, as `placement_group_table` describes them.
        actors: the class of each actor that is not created yet.
        total: the cluster's resources.
        free: those of them that are unused.
    """
    waiting_for = [
        f"placement group {group['name']} of {' + '.join(map(_resources, group['bundles'].values()))}"
        for group in groups
        if group["state"] == "PENDING"
    ]
    waiting_for += [f"{count} x {name}" for name, count in sorted(Counter(actors).items())]
    if not waiting_for:
        return ""
    kinds = [kind for kind in ("CPU", "GPU") if kind in total]
    cluster = ", ".join(f"{total[kind]:g} {kind} ({free.get(kind, 0.0):g} free)" for kind in kinds)
    return f"{', '.join(waiting_for)}; its cluster has {cluster}"


def _resources(bundle: Mapping[str, float]) -> str:
    return "{" + ", ".join(f"{kind} {count:g}" for kind, count in sorted(bundle.items())) + "}"
