"""The watch on servers elsewhere, over real HTTP servers; the test looks in place of the thread."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from guidelines_core.solver.url_watch import UrlWatch
from guidelines_core.solver.watch import SolverLostError
from tests.support.solver_server import Server, serving

KEY = "planted-solver-key-51c0"
SETTINGS = SimpleNamespace(model="m", key_env="SOLVER_KEY", probe_every_s=9.0, probe_s=5.0, restart_within_s=60.0)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Server]]:
    monkeypatch.setenv("SOLVER_KEY", KEY)
    with serving() as first, serving() as second:
        yield first, second


def watching(servers: tuple[Server, ...], told: list[list[str]], **changed: float) -> UrlWatch:
    settings = SimpleNamespace(**{**vars(SETTINGS), **changed})
    return UrlWatch([server.url for server in servers], lambda urls: told.append(list(urls)), settings)


def test_a_server_that_gives_no_token_is_left_out_until_it_does(servers: tuple[Server, Server]) -> None:
    first, second = servers
    told: list[list[str]] = []
    watch = watching(servers, told)
    watch._probe()
    assert told == []
    first.failures = [500, 500]
    watch._probe()
    watch._probe()
    assert told == [[second.url]]
    watch.check()
    assert watch.take_metrics() == {"solver/servers_left_out": 1, "solver/down_s": 0}
    watch._probe()
    assert told == [[second.url], [first.url, second.url]]
    assert watch.take_metrics()["solver/servers_left_out"] == 0
    assert set(first.keys) == {f"Bearer {KEY}"}


def test_a_server_that_is_too_busy_is_not_left_out(servers: tuple[Server, Server]) -> None:
    servers[0].failures = [429]
    told: list[list[str]] = []
    watching(servers, told)._probe()
    assert told == []


def test_while_no_server_gives_a_token_all_are_asked_and_the_time_is_counted(servers: tuple[Server, Server]) -> None:
    first, second = servers
    told: list[list[str]] = []
    watch = watching(servers, told)
    first.failures = [500]
    watch._probe()
    first.failures, second.failures = [500], [500]
    watch._probe()
    assert told == [[second.url], [first.url, second.url]]
    watch.check()
    second.failures = [500]
    watch._probe()
    assert 0 < watch.take_metrics()["solver/down_s"] < 60
    assert told[-1] == [first.url]


def test_a_solver_that_is_gone_for_too_long_is_lost_by_name(servers: tuple[Server, Server]) -> None:
    first, second = servers
    watch = watching(servers, [], restart_within_s=1e-9)
    first.echo_key, first.failures, second.failures = True, [401], [500]
    watch._probe()
    with pytest.raises(SolverLostError) as error:
        watch.check()
    assert "within guidelines.solver.restart_within_s=1e-09" in str(error.value)
    assert f"{first.url}: HTTP status 401" in str(error.value)
    assert f"{second.url}: HTTP status 500" in str(error.value)
    assert KEY not in str(error.value)
    watch._probe()
    watch.check()


def test_the_thread_looks_now_and_then(servers: tuple[Server, Server]) -> None:
    watch = watching(servers, [], probe_every_s=0.02)
    watch.start()
    while not servers[1].requests:
        watch._ended.wait(0.02)
    watch.stop()
    watch._thread.join(10)
    assert not watch._thread.is_alive()
