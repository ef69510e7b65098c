"""Standard output and error whose errors do not end a program: a closed pipe, a character outside the encoding.

And Rich's console for both, which prints texts as they are.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console


WIDTH = 160
"""Columns of what is printed into a file or a pipe, unless COLUMNS is set; at 80 Rich leaves out columns of tables."""


def plain_console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return a console that takes no part of a text for markup or the name of an emoji.

    Texts of models, logs and paths have square brackets and colons of their own.
    """
    from rich.console import Console

    if width is None and "COLUMNS" not in os.environ and not (sys.stderr if stderr else sys.stdout).isatty():
        width = WIDTH
    return Console(stderr=stderr, width=width, markup=False, emoji=False)


class _Unfailing(io.RawIOBase):
    """A file descriptor whose writes drop what cannot be written."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: object) -> int:
        view = memoryview(cast(bytes, data))
        try:
            return os.write(self._descriptor, view)
        except OSError:  # the pipe's reader has ended, the terminal has hung up, the disk is full
            return view.nbytes


def replace_unprintable() -> None:
    """Make standard output and error print `?` for characters outside their encoding."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def keep_output() -> None:
    """Replace `sys.stdout` and `sys.stderr` by streams that raise no errors on writing.

    Characters outside the encoding become `?`; what cannot be written is dropped.
    """
    _open_standard_descriptors()
    sys.stdout, sys.stderr = _kept(sys.stdout, 1), _kept(sys.stderr, 2)


def _kept(stream: TextIO | None, descriptor: int) -> TextIO:
    encoding = stream.encoding if stream is not None else None
    if stream is not None:
        stream.flush()
    buffer = io.BufferedWriter(_Unfailing(descriptor))
    return io.TextIOWrapper(buffer, encoding=encoding, errors="replace", line_buffering=True)


def _open_standard_descriptors() -> None:
    """Open /dev/null for closed standard descriptors, whose numbers the next opened files would get."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
