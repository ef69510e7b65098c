"""Processes that are forks: what a caller sees must be what an interpreter of its own would show."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from guidelines_core.launch.forkserver import forked_processes
from guidelines_core.paths import ROOT


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    with forked_processes(["this_is_warm"]) as executable:
        yield executable


@pytest.fixture(scope="module", autouse=True)
def warm_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "this_is_warm.py").write_text("import os\nimported_by = os.getpid()\n")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def test_a_process_is_a_fork_with_the_imports_done(python: Path) -> None:
    code = "import os, sys; print(sys.modules['this_is_warm'].imported_by, os.getpid())"
    importers, forks = zip(
        *(subprocess.check_output([python, "-c", code], text=True).split() for _ in range(2)), strict=True
    )
    assert len({*importers}) == 1
    assert len({*importers, *forks, str(os.getpid())}) == 4


def test_arguments_environment_directory_and_streams_are_the_callers(python: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys; print(sys.stdin.read())\n"
        "print(sys.argv[1:], os.environ['ONLY'], 'HOME' in os.environ, os.getcwd(), file=sys.stderr)"
    )
    done = subprocess.run(
        [python, "-X", "utf8", "-c", code, "a b", "$c"],
        env={"ONLY": "this"},
        cwd=tmp_path,
        input="said",
        text=True,
        capture_output=True,
    )
    assert done.stdout == "said\n"
    assert done.stderr == f"['a b', '$c'] this False {tmp_path}\n"


@pytest.mark.parametrize(
    ("code", "status"),
    [("pass", 0), ("import sys; sys.exit(7)", 7), ("1 / 0", 1), ("import os; os.kill(os.getpid(), 9)", -9)],
)
def test_the_exit_status_is_the_forks(python: Path, code: str, status: int) -> None:
    assert subprocess.run([python, "-c", code], stderr=subprocess.DEVNULL).returncode == status


def test_modules_and_scripts_run_as_main(python: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nif __name__ == '__main__':\n    print('main', sys.argv)\n")
    assert subprocess.check_output([python, str(script), "x"], text=True) == f"main ['{script}', 'x']\n"
    assert subprocess.check_output([python, "-m", "json.tool", "--compact"], input="{ }", text=True) == "{}\n"


def test_inherited_file_descriptors_keep_their_numbers(python: Path) -> None:
    read, write = os.pipe()
    code = f"import os; os.write({write}, b'through')"
    subprocess.run([python, "-c", code], pass_fds=[write], check=True)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        assert stream.read() == b"through"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_caller_s_process_ends_the_fork(python: Path, number: signal.Signals) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with subprocess.Popen([python, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        fork = psutil.Process(int(process.stdout.readline()))
        process.send_signal(number)
        assert process.wait(timeout=5) == -number
        deadline = time.monotonic() + 5
        while fork.is_running() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not fork.is_running()


def test_two_forks_draw_different_random_numbers(python: Path) -> None:
    code = "import random, numpy; print(random.random(), numpy.random.random())"
    first, second = (subprocess.check_output([python, "-c", code], text=True).split() for _ in range(2))
    assert first[0] != second[0]
    assert first[1] != second[1]


def test_multiprocessing_starts_its_processes_as_forks(python: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        importer, process = pool.apply(importer_and_own)
    assert importer not in (process, os.getpid())


def importer_and_own() -> tuple[int, int]:
    """Return the process that imported the warm module and this one; runs in a pool's process."""
    return int(sys.modules["this_is_warm"].imported_by), os.getpid()


FAILS = """
import sys, time
from guidelines_core.launch.forkserver import forked_processes
with forked_processes(["there_is_no_such_module"]):
    time.sleep(60)
"""


def test_a_failed_import_ends_the_owner_and_is_named_in_its_log() -> None:
    done = subprocess.run([sys.executable, "-c", FAILS], cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=30)
    assert done.returncode == -signal.SIGTERM
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'there_is_no_such_module'"


CLOSES = """
import json, os, socket, subprocess
from guidelines_core.launch.forkserver import forked_processes
with forked_processes(["json"]) as python:
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(python.with_name("socket")))
            request = {"arguments": ["-c", ""], "environment": {}, "directory": "/", "numbers": []}
            client.sendall(json.dumps(request).encode() + b"\\n")
    print(subprocess.check_output([python, "-c", "print('alive')"], text=True), end="")
"""


def test_clients_that_are_killed_while_they_ask_do_not_end_the_server() -> None:
    done = subprocess.run([sys.executable, "-c", CLOSES], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "alive\n", "")


def test_who_asks_before_the_imports_are_done_waits_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "this_is_slow.py").write_text("import time\ntime.sleep(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    began = time.monotonic()
    with forked_processes(["this_is_slow"]) as executable:
        assert time.monotonic() - began < 2
        code = "import sys; print('this_is_slow' in sys.modules)"
        assert subprocess.check_output([executable, "-c", code], text=True) == "True\n"
    assert time.monotonic() - began >= 3


def test_without_a_server_the_interpreter_itself_starts() -> None:
    with forked_processes([]) as executable:
        client = executable.read_text()
    done = subprocess.run(["sh", "-c", client.replace('"$@"', "-c 'print(6 * 7)'")], text=True, capture_output=True)
    assert done.stdout == "42\n"


def test_nothing_is_left_when_the_block_ends() -> None:
    before = set(psutil.Process().children(recursive=True))
    with forked_processes([]) as executable:
        subprocess.run([executable, "-c", "pass"], check=True)
        folder = executable.parent
    assert not folder.exists()
    assert set(psutil.Process().children(recursive=True)) == before
