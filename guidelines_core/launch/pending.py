"""Writes down what Ray has not placed yet while a run starts; Ray itself does not log it."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guidelines_core.launch.processes import FOLDER
from guidelines_core.launch.start_watch import WAITS

EVERY_S = 5.0


def keep_noting() -> None:
    """Write what Ray has not placed into the attempt's folder, every few seconds, from a thread of Ray's driver."""
    threading.Thread(target=_note, args=(Path(os.environ[FOLDER]) / WAITS,), name="pending", daemon=True).start()


def _note(file: Path) -> None:
    import ray
    from ray._private.state import actors

    while file.parent.is_dir():
        time.sleep(EVERY_S)
        if ray.is_initialized():
            waiting = actors(actor_state_name="PENDING_CREATION")
            text = pending(
                ray.util.placement_group_table().values(),
                [actor["ActorClassName"] for actor in waiting.values()],
                ray.cluster_resources(),
                ray.available_resources(),
            )
            file.write_text(text)


def pending(groups: Any, actors: list[str], there: Mapping[str, float], free: Mapping[str, float]) -> str:
    """Return what is not placed and what the cluster has, empty if all is placed.

    Args:
        groups: Ray's placement groups, as `placement_group_table` describes them.
        actors: the class of each actor that is not created yet.
        there, free: the cluster's resources, all and the unused ones.
    """
    wanted = [
        f"placement group {group['name']} of {' + '.join(map(_resources, group['bundles'].values()))}"
        for group in groups
        if group["state"] == "PENDING"
    ]
    wanted += [f"{count} x {name}" for name, count in sorted(Counter(actors).items())]
    if not wanted:
        return ""
    kinds = [kind for kind in ("CPU", "GPU") if kind in there]
    cluster = ", ".join(f"{there[kind]:g} {kind} ({free.get(kind, 0.0):g} free)" for kind in kinds)
    return f"{', '.join(wanted)}; its cluster has {cluster}"


def _resources(bundle: Mapping[str, float]) -> str:
    return "{" + ", ".join(f"{kind} {count:g}" for kind, count in sorted(bundle.items())) + "}"
