"""Can this machine install and run the CPU set? `python guidelines_core/host.py` asks before any download.

Standard library and the syntax of Python 3.6 alone, so that an old interpreter gets a sentence and not a
SyntaxError: one line on stderr for each thing that is wrong, exit code 2; silence when all is well.
"""
# ruff: noqa: UP006, UP035, UP045

import importlib.util
import os
import platform
import shutil
import sys
from typing import Dict, Iterator, List, Optional, Tuple

OLDEST, NEWEST = (3, 10), (3, 12)
GLIBC = (2, 28)
MEMORY_GB = 13.0
DISK_GB = 12.0
GB = 1e9
UNLIMITED = 1 << 60  # cgroup v1 writes "no limit" as a number near 2**63


def python_finding(version: Tuple[int, int], implementation: str) -> Optional[str]:
    """Say what is wrong with the interpreter, if anything."""
    if implementation == "cpython" and OLDEST <= version <= NEWEST:
        return None
    return (
        "This is {} {}.{}; CPython 3.10, 3.11 or 3.12 is needed: install one and name it, as in "
        "`make install PYTHON=python3.11`."
    ).format("Python" if implementation == "cpython" else implementation, *version)


def platform_finding(system: str, machine: str, libc: str) -> Optional[str]:
    """Say why no wheels exist for this platform, if so; `libc` is like "glibc 2.36", or "" if unknown."""
    if system != "Linux" or machine not in ("x86_64", "AMD64"):
        return (
            "This machine is {} on {}; the pinned wheels exist for Linux on x86_64 alone: use such a "
            "machine, a container or a virtual machine."
        ).format(system or "an unknown system", machine or "an unknown processor")
    name, _, version = libc.partition(" ")
    numbers = version.split(".")[:2]
    if name != "glibc" or not all(n.isdigit() for n in numbers) or tuple(map(int, numbers)) < GLIBC:
        return (
            "The C library here is {}; the pinned wheels need glibc 2.28 or newer, and none exist for "
            "musl: use a distribution such as Debian 10, Ubuntu 20.04, RHEL 8 or newer."
        ).format(libc or "not glibc (musl?)")
    return None


def memory_finding(available: Optional[int]) -> Optional[str]:
    """Say that there is too little memory, if so; None stands for a machine that does not tell."""
    if available is None or available >= MEMORY_GB * GB:
        return None
    return (
        f"{available / GB:.1f} GB of memory are available; a quickstart needs {MEMORY_GB:.0f} GB: end other "
        "programs, raise the container's limit or take a larger machine."
    )


def disk_finding(free: int, folder: str) -> Optional[str]:
    """Say that there is too little room on the disk that holds the project, if so."""
    if free >= DISK_GB * GB:
        return None
    return (
        f"{free / GB:.1f} GB of disk are free at {folder}; the installation and two runs with checkpoints "
        f"need {DISK_GB:.0f} GB: free some or move the project to a larger disk."
    )


def venv_finding(missing: List[str], version: Tuple[int, int]) -> Optional[str]:
    """Say that this Python cannot make a virtual environment, if so."""
    if not missing:
        return None
    return (
        "This Python has no module {}; it is needed to make .venv: install it (on Debian and Ubuntu: "
        "`apt install python{}.{}-venv`)."
    ).format(" and no module ".join(missing), *version)


def meminfo_available(text: str) -> Optional[int]:
    """Read MemAvailable, in bytes, from the text of /proc/meminfo."""
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def cgroup_available(limit: str, usage: str, stat: str) -> Optional[int]:
    """Count bytes left under one cgroup limit (None: no limit), freeable file cache included."""
    if not limit.strip().isdigit() or int(limit) >= UNLIMITED:
        return None
    pairs = [line.split() for line in stat.splitlines()]
    fields: Dict[str, str] = {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
    cache = int(fields.get("total_inactive_file", fields.get("inactive_file", "0")))
    used = int(usage) if usage.strip().isdigit() else 0
    return max(0, int(limit) - max(0, used - cache))


def _read(*path: str) -> str:
    try:
        with open(os.path.join(*path)) as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def cgroup_folders(text: str) -> Iterator[Tuple[str, str, str]]:
    """Yield (folder, file of the limit, file of the usage) for all groups named in /proc/self/cgroup."""
    for line in text.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            root, limit, usage = "/sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit, usage = "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        parts = [p for p in path.split("/") if p not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            yield os.path.join(root, *parts[:depth]), limit, usage


def available_memory() -> Optional[int]:
    """Bytes that a new program may take: the machine's, or less where a cgroup sets a limit."""
    found = [meminfo_available(_read("/proc/meminfo"))]
    for folder, limit, usage in cgroup_folders(_read("/proc/self/cgroup")):
        found.append(cgroup_available(_read(folder, limit), _read(folder, usage), _read(folder, "memory.stat")))
    known = [f for f in found if f is not None]
    return min(known) if known else None


def libc() -> str:
    """Name the C library, like "glibc 2.36"; "" where it does not tell (musl)."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return ""


def findings(folder: str) -> List[str]:
    """All that is wrong here for a project in `folder`, a sentence each."""
    version = (sys.version_info[0], sys.version_info[1])
    missing = [m for m in ("venv", "ensurepip") if importlib.util.find_spec(m) is None]
    found = [
        python_finding(version, sys.implementation.name),
        platform_finding(platform.system(), platform.machine(), libc()),
        memory_finding(available_memory()),
        disk_finding(shutil.disk_usage(folder).free, folder),
        venv_finding(missing, version),
    ]
    return [f for f in found if f]


def main() -> int:
    """Print the findings; 2 if there are any."""
    found = findings(os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))
    for sentence in found:
        sys.stderr.write(sentence + "\n")
    return 2 if found else 0


if __name__ == "__main__":
    sys.exit(main())
