"""That a request to stop is remembered, and what was set before it restored."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from guidelines_core.launch.stop import SIGNALS, StopRequests


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Ignore no signal: a shell has its background jobs ignore SIGINT."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_remembered_and_ends_nothing(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with StopRequests() as stop:
        assert stop.last is None
        os.kill(os.getpid(), number)
        assert stop.last == number
        assert stop.finish_step == (number != signal.SIGINT)
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopRequests() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.last is None
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
