"""Starts a run's Python processes as forks of a process that has done the slow imports.

A run has about fourteen Python processes, and each imports torch, verl, transformers and vLLM: five to ten seconds and
a few hundred megabytes each. With `forked_processes`, Ray's workers (by `py_executable` of its runtime environment)
and vLLM's engines (by `multiprocessing.set_executable`) are started through `forkserver_client.py`, which asks the
server here for a fork instead of starting an interpreter. The standard library's forkserver only serves processes that
`multiprocessing` starts in the same process.

The server must be forked before the process that owns it starts threads or touches an accelerator.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import multiprocessing
import os
import random
import runpy
import selectors
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np

from guidelines_core.runs.start import FOLDER

CLIENT = Path(__file__).with_name("forkserver_client.py")
FDS_MAX = 250
"""File descriptors that one message can carry; Linux refuses more than 253 (SCM_MAX_FD)."""


@contextlib.contextmanager
def forked_processes(modules: Sequence[str]) -> Iterator[Path]:
    """Start a process that imports `modules` and then serves forks of itself until the block ends.

    Yields the executable that asks for a fork, without waiting; requests wait until the imports are done. An import
    that fails ends this process, with the reason on its standard error. Inside the block `multiprocessing` starts its
    processes through that executable, also in the forks.
    """
    folder = Path(tempfile.mkdtemp(prefix="forkserver-", dir=os.environ.get(FOLDER)))
    address, executable = str(folder / "socket"), folder / "python"
    words = [sys.executable, "-I", "-S", str(CLIENT), address, sys.executable]
    executable.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    executable.chmod(0o700)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(128)
    python, owner = sys.executable, os.getpid()
    multiprocessing.set_executable(str(executable))
    server = os.fork()
    if server == 0:
        _import_or_end(modules, owner)
        _Server(listener).serve()
    listener.close()
    try:
        yield executable
    finally:
        multiprocessing.set_executable(python)
        os.kill(server, signal.SIGTERM)
        os.waitpid(server, 0)
        shutil.rmtree(folder)


def _import_or_end(modules: Sequence[str], owner: int) -> None:
    """Import `modules`; a failure ends this process and its `owner`, whose children would wait forever."""
    try:
        for module in modules:
            importlib.import_module(module)
    except BaseException:
        # The owner's standard error, which it may have redirected since the fork.
        with open(f"/proc/{owner}/fd/2", "a") as stderr:
            traceback.print_exc(file=stderr)
        os.kill(owner, signal.SIGTERM)
        os._exit(1)
    # Pages that the garbage collector does not touch stay shared with the forks.
    gc.collect()
    gc.freeze()


@dataclass
class Request:
    """A client's request for a process.

    Attributes:
        arguments: the interpreter's: its options, then `-c CODE`, `-m MODULE` or a script, then the program's.
        environment: the new process's.
        directory: its working directory.
        numbers: its file descriptors, in the order in which they are sent.
    """

    arguments: list[str]
    environment: dict[str, str]
    directory: str
    numbers: list[int]


class _Server:
    """Forks a child for each connection, and sends the client its process id and later its exit status.

    If a client's connection breaks, the client was killed, and its child is killed.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._clients: dict[int, socket.socket] = {}

    def serve(self) -> None:
        """Serve until SIGTERM; never returns."""
        woken, wake = socket.socketpair()
        wake.setblocking(False)
        woken.setblocking(False)
        signal.set_wakeup_fd(wake.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._listener:
                        self._start(selector)
                    elif key.fileobj is woken:
                        woken.recv(4096)
                        self._reap(selector)
                    elif key.data in self._clients:  # Else it was reaped a moment ago.
                        os.kill(key.data, signal.SIGKILL)
                        selector.unregister(key.fileobj)

    def _start(self, selector: selectors.BaseSelector) -> None:
        connection, _ = self._listener.accept()
        request, descriptors = _receive(connection)
        if request is None:
            connection.close()
            return
        child = os.fork()
        if child == 0:
            signal.set_wakeup_fd(-1)
            selector.close()
            for other in (self._listener, connection, *self._clients.values()):
                other.close()
            os._exit(_become(request, descriptors))
        for descriptor in descriptors:
            os.close(descriptor)
        # A client that was killed meanwhile: its broken connection is seen next.
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"%d\n" % child)
        self._clients[child] = connection
        selector.register(connection, selectors.EVENT_READ, data=child)

    def _reap(self, selector: selectors.BaseSelector) -> None:
        while self._clients:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child == 0:
                return
            connection = self._clients.pop(child)
            with contextlib.suppress(KeyError):
                selector.unregister(connection)
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            connection.close()


def _receive(connection: socket.socket) -> tuple[Request | None, list[int]]:
    """Return a client's request and its file descriptors; None if the client ended."""
    size = array.array("i").itemsize
    data, ancillary, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(FDS_MAX * size))
    descriptors = array.array("i")
    for _, _, payload in ancillary:
        descriptors.frombytes(payload[: len(payload) - len(payload) % size])
    while data and not data.endswith(b"\n"):
        more = connection.recv(1 << 16)
        if not more:
            return None, []
        data += more
    return (Request(**json.loads(data)), list(descriptors)) if data else (None, [])


def _become(request: Request, descriptors: list[int]) -> int:
    """Turn this fork into the requested process; return its exit status."""
    os.setsid()
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _place(descriptors, request.numbers)
    sys.stdin, sys.stdout, sys.stderr = _stream(0, "r"), _stream(1, "w"), _stream(2, "w")
    os.chdir(request.directory)
    os.environ.clear()
    os.environ.update(request.environment)
    random.seed()
    np.random.seed()
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    status = 1
    try:
        _run(request.arguments, main)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        # What the interpreter does at its end; os._exit follows, since this fork must not return to the server's code.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if not stream.closed:
                stream.flush()
    return status


def _stream(number: int, mode: Literal["r", "w"]) -> TextIO:
    return open(number, mode, buffering=1, closefd=False, errors="backslashreplace")


def _place(descriptors: list[int], numbers: list[int]) -> None:
    """Move the received file descriptors to the numbers that they have in the client."""
    above = max(numbers, default=2) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, above) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for descriptor, number in zip(moved, numbers, strict=True):
        os.dup2(descriptor, number, inheritable=True)
        os.close(descriptor)


def _run(arguments: list[str], main: Any) -> None:
    """Run the code, module or script of `python ARGUMENTS`, after the interpreter's options."""
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] not in ("-c", "-m"):
        del rest[: 2 if rest[0] in ("-X", "-W") else 1]
    if rest[0] == "-c":
        sys.argv = ["-c", *rest[2:]]
        exec(compile(rest[1], "<string>", "exec"), main.__dict__)
    elif rest[0] == "-m":
        sys.argv = rest[1:]
        runpy.run_module(rest[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = rest
        runpy.run_path(rest[0], run_name="__main__")
