"""Can this machine install a set of packages? `python guidelines_core/hardware/host.py [cpu|gpu]` says what it lacks.

Standard library and the syntax of Python 3.6 alone, so that an old interpreter gets a sentence and not a
SyntaxError: one line on stderr for each thing that is wrong, exit code 2. A machine without an NVIDIA driver may
install the GPU set, as a cluster's login node does; it is told what the set needs to run.
"""
# ruff: noqa: UP006, UP035, UP045

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

OLDEST, NEWEST = (3, 10), (3, 12)
GPU_PYTHON = (3, 12)
DRIVER = 580
"""The oldest driver for CUDA 13 (the CUDA toolkit's release notes, table "Minimum driver version")."""
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


def gpu_python_finding(version: Tuple[int, int], implementation: str) -> Optional[str]:
    """Say that the GPU set's pins are for another interpreter, if so."""
    if implementation == "cpython" and version == GPU_PYTHON:
        return None
    return (
        "This is {} {}.{}; the GPU set is pinned for CPython {}.{}: install that and name it, as in "
        "`make install-gpu PYTHON=python3.12`."
    ).format("Python" if implementation == "cpython" else implementation, *(version + GPU_PYTHON))


def driver_finding(version: Optional[str]) -> Optional[str]:
    """Say that the NVIDIA driver is too old, if so; None stands for a machine without one."""
    if version is None or not version.split(".")[0].isdigit() or int(version.split(".")[0]) >= DRIVER:
        return None
    return (
        f"The NVIDIA driver is {version}; CUDA 13 needs {DRIVER} or newer: update the driver, or use a machine that "
        "has one."
    )


def set_finding(wanted: str, there: str) -> Optional[str]:
    """Say that .venv holds the other set, if so; `there` is that set's name, "" for none."""
    if there in ("", wanted):
        return None
    return (
        f".venv holds the {there.upper()} set; the two do not mix: remove it (`rm -r .venv`) and install again, or use "
        "a second clone."
    )


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


def disk_finding(free: int, folder: str, what: str = "the installation and two runs with checkpoints") -> Optional[str]:
    """Say that there is too little room on the disk that holds the project, if so."""
    if free >= DISK_GB * GB:
        return None
    return (
        f"{free / GB:.1f} GB of disk are free at {folder}; {what} need {DISK_GB:.0f} GB: free some or move the project "
        "to a larger disk."
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


def driver() -> Optional[str]:
    """Return the NVIDIA driver's version, like "580.65.06"; None where there is no driver."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.check_output(command, stderr=subprocess.DEVNULL, universal_newlines=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return said.split()[0] if said.split() else None


def findings(folder: str, wanted: str = "cpu") -> List[str]:
    """All that is wrong here for a project in `folder` and the set `wanted`, a sentence each."""
    version, implementation = (sys.version_info[0], sys.version_info[1]), sys.implementation.name
    missing = [m for m in ("venv", "ensurepip") if importlib.util.find_spec(m) is None]
    free = shutil.disk_usage(folder).free
    found = [
        set_finding(wanted, _read(folder, ".venv", ".set").strip()),
        platform_finding(platform.system(), platform.machine(), libc()),
        venv_finding(missing, version),
    ]
    if wanted == "gpu":
        found += [
            gpu_python_finding(version, implementation),
            driver_finding(driver()),
            disk_finding(free, folder, "the GPU set and its downloads"),
        ]
    else:
        found += [
            python_finding(version, implementation),
            memory_finding(available_memory()),
            disk_finding(free, folder),
        ]
    return [f for f in found if f]


def main(arguments: Sequence[str] = ()) -> int:
    """Print the findings for the set that is named; 2 if there are any."""
    wanted = arguments[0] if arguments else "cpu"
    found = findings(os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")), wanted)
    for sentence in found:
        sys.stderr.write(sentence + "\n")
    if not found and wanted == "gpu" and driver() is None:
        sys.stderr.write(
            f"No NVIDIA driver here. Installing all the same; runs on GPUs need driver {DRIVER} or newer.\n"
        )
    return 2 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
