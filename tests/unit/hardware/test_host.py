import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from guidelines_core.hardware import host
from guidelines_core.paths import ROOT

GB = 10**9


@pytest.mark.parametrize("version", [(3, 10), (3, 11), (3, 12)])
def test_supported_pythons_pass(version: tuple[int, int]) -> None:
    assert host.python_finding(version, "cpython") is None


@pytest.mark.parametrize(
    ("version", "implementation"),
    [((3, 9), "cpython"), ((3, 6), "cpython"), ((3, 13), "cpython"), ((3, 11), "pypy")],
)
def test_other_pythons_are_named(version: tuple[int, int], implementation: str) -> None:
    sentence = host.python_finding(version, implementation)
    assert sentence is not None
    assert f"{version[0]}.{version[1]};" in sentence
    assert "3.10, 3.11 or 3.12" in sentence
    assert "make install PYTHON=" in sentence


@pytest.mark.parametrize("libc", ["glibc 2.28", "glibc 2.36", "glibc 2.36.9000", "glibc 3.0"])
def test_a_platform_with_wheels_passes(libc: str) -> None:
    assert host.platform_finding("Linux", "x86_64", libc) is None


@pytest.mark.parametrize(
    ("system", "machine", "libc", "named"),
    [
        ("Darwin", "arm64", "", "Darwin on arm64"),
        ("Linux", "aarch64", "glibc 2.36", "Linux on aarch64"),
        ("Windows", "AMD64", "", "Windows on AMD64"),
        ("Linux", "x86_64", "glibc 2.27", "glibc 2.27"),
        ("Linux", "x86_64", "glibc 2.5", "glibc 2.5"),
        ("Linux", "x86_64", "", "musl"),
        ("Linux", "x86_64", "glibc", "glibc 2.28 or newer"),
    ],
)
def test_a_platform_without_wheels_is_named(system: str, machine: str, libc: str, named: str) -> None:
    assert named in (host.platform_finding(system, machine, libc) or "")


def test_memory_and_disk_have_a_floor() -> None:
    assert host.memory_finding(13 * GB) is None
    assert host.memory_finding(None) is None
    assert "3.5 GB of memory" in (host.memory_finding(3_500_000_000) or "")
    assert host.memory_finding(13 * GB - 1) is not None
    assert host.disk_finding(12 * GB, "/x") is None
    sentence = host.disk_finding(4 * GB, "/x") or ""
    assert "4.0 GB of disk are free at /x" in sentence
    assert "need 12 GB" in sentence


def test_a_python_without_venv_is_told_what_to_install() -> None:
    assert host.venv_finding([], (3, 11)) is None
    assert "python3.11-venv" in (host.venv_finding(["ensurepip"], (3, 11)) or "")


def test_meminfo() -> None:
    assert host.meminfo_available("MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:   2048 kB\n") == 2048 * 1024
    assert host.meminfo_available("MemTotal: 9 kB\n") is None


@pytest.mark.parametrize(
    ("limit", "usage", "stat", "left"),
    [
        ("max\n", "5\n", "", None),
        ("9223372036854771712\n", "5\n", "", None),
        ("", "", "", None),
        ("1000\n", "400\n", "anon 100\ninactive_file 300\n", 900),
        ("1000\n", "400\n", "inactive_file 0\ntotal_inactive_file 100\n", 700),
        ("1000\n", "1200\n", "", 0),
        ("1000\n", "", "", 1000),
    ],
)
def test_a_cgroup_limit_counts_without_the_cache(limit: str, usage: str, stat: str, left: int | None) -> None:
    assert host.cgroup_available(limit, usage, stat) == left


def test_every_cgroup_above_the_process_is_read() -> None:
    assert [f[0] for f in host.cgroup_folders("0::/a/b\n")] == [
        "/sys/fs/cgroup/a/b",
        "/sys/fs/cgroup/a",
        "/sys/fs/cgroup",
    ]
    assert list(host.cgroup_folders("5:cpu,memory:/\n3:pids:/x\n")) == [
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
    ]


def test_the_smallest_limit_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": "MemAvailable: 9000 kB\n",
        "/proc/self/cgroup": "0::/a\n",
        "/sys/fs/cgroup/a/memory.max": "max\n",
        "/sys/fs/cgroup/memory.max": "5000\n",
        "/sys/fs/cgroup/memory.current": "1000\n",
    }
    monkeypatch.setattr(host, "_read", lambda *path: files.get("/".join(path), ""))
    assert host.available_memory() == 4000


def test_an_old_python_can_read_the_file() -> None:
    ast.parse(Path(host.__file__).read_text(), feature_version=(3, 6))


def test_each_finding_is_one_line_and_the_exit_code_2() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import host; host.MEMORY_GB = host.DISK_GB = 1e9; "
        "host.platform_finding = host.set_finding = lambda *a: None; sys.exit(host.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(host.__file__).parent)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert [line.split(";")[0][-30:].split()[-1] for line in done.stderr.splitlines()] == [
        "available",
        str(_root()),
    ]


def _root() -> Path:
    return Path(host.__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("version", "said"), [("580.65.06", None), ("610.1", None), (None, None), ("570.172.08", "570")]
)
def test_cuda_13_needs_its_driver(version: str | None, said: str | None) -> None:
    sentence = host.driver_finding(version)
    assert (sentence is None) == (said is None)
    if sentence is not None and said is not None:
        assert said in sentence
        assert "580 or newer" in sentence


def test_the_gpu_set_is_for_one_python() -> None:
    assert host.gpu_python_finding((3, 12), "cpython") is None
    assert "make install-gpu PYTHON=python3.12" in (host.gpu_python_finding((3, 11), "cpython") or "")


@pytest.mark.parametrize(("target", "there"), [("install-gpu", "cpu"), ("install", "gpu"), ("quickstart", "gpu")])
def test_make_does_not_mix_the_sets(tmp_path: Path, target: str, there: str) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints", "guidelines_core/hardware/host.py"):
        source, copy = ROOT / name, tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy)
        else:
            shutil.copy(source, copy)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/.set").write_text(f"{there}\n")
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(["make", target, f"PYTHON={sys.executable}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert f".venv holds the {there.upper()} set; the two do not mix" in done.stderr
    assert sorted(path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts) == before
