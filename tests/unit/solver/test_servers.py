"""Servers elsewhere: their URLs and key, which of several is asked, and one that asks for a pause."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guidelines_core.prompts import solver_messages
from guidelines_core.solver.client import Solver, SolverError
from guidelines_core.solver.probe import no_token
from guidelines_core.solver.response import SHOWN, GarbledError, in_words, retry_after
from guidelines_core.solver.servers import AVOIDED_S, KeyMissingError, Servers, key_of, url_fault
from tests.support.solver_server import serving

KEY = "planted-solver-key-51c0"


def ask(addresses: list[str], count: int = 1, **settings: Any) -> tuple[list[Any], Solver]:
    async def run() -> tuple[list[Any], Solver]:
        defaults = {"max_tokens": 32, "max_concurrency": 8, "deadline_s": 20.0, "step_deadline_s": 30.0, "seed": 0}
        solver = Solver(addresses, "m", **{**defaults, **settings})
        calls = [solver.solve(solver_messages(f"q{i}", "g"), temperature=0.5) for i in range(count)]
        return await asyncio.gather(*calls, return_exceptions=True), solver

    return asyncio.run(run())


def test_requests_are_spread_over_servers_and_one_that_is_away_costs_one_try_each_now_and_then() -> None:
    with serving() as first, serving() as second:
        found, solver = ask([first.url, "http://127.0.0.1:9/v1", second.url], count=40, max_concurrency=4)
    assert all(solutions[0].tokens == 7 for solutions in found)
    assert min(len(first.requests), len(second.requests)) >= 5
    # All of the first four may meet the one that is away, before one of them has failed.
    assert 0 < solver.counts["retries"] <= 4
    assert solver.most_in_flight <= 4


def test_nobody_asks_before_a_pause_that_a_server_asked_for_has_ended() -> None:
    with serving() as server:
        server.failures, server.headers = [429], {"Retry-After": "2"}
        found, solver = ask([server.url], count=6, max_concurrency=1)
    assert all(solutions[0].tokens == 7 for solutions in found)
    assert solver.counts["retries"] == 1
    first, *others = server.arrivals
    assert min(others) - first >= 2.0


def test_while_one_server_pauses_the_other_is_asked() -> None:
    with serving() as busy, serving() as other:
        busy.failures, busy.headers = [503], {"Retry-After": "60"}
        found, _ = ask([busy.url, other.url], count=10, max_concurrency=2)
    assert all(solutions[0].tokens == 7 for solutions in found)
    assert (len(busy.requests), len(other.requests)) == (1, 10)


def test_a_pause_beyond_the_deadline_ends_with_it_and_is_named() -> None:
    began = time.monotonic()
    with serving() as server:
        server.failures, server.headers = [429] * 9, {"Retry-After": "3600"}
        found, _ = ask([server.url], count=2, max_concurrency=1, deadline_s=1.0)
    assert time.monotonic() - began < 15
    assert len(server.requests) == 1
    assert all(isinstance(error, SolverError) for error in found)
    assert "HTTP status 429 (Retry-After: 3600 s)" in str(found[0])
    assert "its servers asked for a pause of 35" in str(found[1])


def test_the_key_is_sent_and_no_error_repeats_it() -> None:
    with serving() as server:
        server.echo_key, server.failures = True, [500, 401]
        [refused], _ = ask([server.url], key=KEY)
        server.failures = [503] * 9
        [late], _ = ask([server.url], key=KEY, deadline_s=1.0)
        server.failures = []
        assert None is no_token(server.url, "m", within_s=5.0, key=KEY)
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert "HTTP status 401" in str(refused)
    assert "***" in str(refused)
    assert "***" in str(late)
    assert KEY not in f"{refused} {late}"


@given(st.integers(0, SHOWN + len(KEY)), st.sampled_from(["refused", "garbled", "connection"]))
def test_no_part_of_a_key_is_left_where_a_text_is_cut(before: int, kind: str) -> None:
    text = "." * before + KEY + "'"
    response = httpx.Response(500, text=text, request=httpx.Request("POST", "http://host/v1"))
    error = {
        "refused": httpx.HTTPStatusError("", request=response.request, response=response),
        "garbled": GarbledError("ValueError in the solver's answer", text),
        "connection": httpx.ConnectError(text),
    }[kind]
    assert KEY[:4] not in in_words(error, KEY)
    assert in_words(error, None).count(".") >= min(before, SHOWN)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refused_request_says_its_status_and_is_not_asked_again(status: int) -> None:
    with serving() as server:
        server.failures = [status]
        [error], _ = ask([server.url])
    assert f"refused the request: HTTP status {status}, " in str(error)
    assert len(server.requests) == 1


def test_a_server_elsewhere_may_be_behind_the_environments_proxy_and_loopback_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as proxy, serving() as here:
        monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
        [elsewhere], _ = ask(["http://solver.example/v1"])
        [loopback], _ = ask([here.url])
    assert (elsewhere[0].tokens, loopback[0].tokens) == (7, 7)
    assert (len(proxy.requests), len(here.requests)) == (1, 1)


@given(st.lists(st.sampled_from(["answers", "fails", "pauses", "later"]), max_size=60))
def test_a_paused_server_is_never_taken_and_one_that_failed_only_if_all_did(events: list[str]) -> None:
    servers, now = Servers(["a", "b", "c"]), 100.0
    paused, failed = dict.fromkeys("abc", 0.0), dict.fromkeys("abc", -100.0)
    for event in events:
        if event == "later":
            now += 3.0
            continue
        now = max(now, servers.opens())
        taken = servers.take(now)
        open_now = [name for name in "abc" if paused[name] <= now]
        assert taken in open_now
        well = [name for name in open_now if failed[name] + AVOIDED_S <= now]
        assert taken in (well or open_now)
        if event != "answers":
            pause = 7.0 if event == "pauses" else None
            servers.failed(taken, now, pause)
            failed[taken], paused[taken] = now, max(paused[taken], now + (pause or 0.0))
        servers.give_back(taken)
    assert servers.in_flight == 0


def test_a_request_that_ends_after_its_server_left_and_came_back_counts_once() -> None:
    servers = Servers(["a", "b"])
    assert {servers.take(0.0), servers.take(0.0)} == {"a", "b"}
    servers.relocate(["b"])
    servers.relocate(["a", "b"])
    servers.give_back("a")
    servers.give_back("b")
    assert servers.in_flight == 0


@pytest.mark.parametrize(
    ("header", "expected"), [("3", 3), ("0", 0), ("", None), ("soon", None), ("-1", None), ("1.5", None)]
)
def test_a_pause_is_read_in_seconds(header: str, expected: float | None) -> None:
    assert retry_after(httpx.Response(429, headers={"retry-after": header})) == expected


@given(st.integers(-3600, 3600))
def test_a_pause_is_read_from_a_date(seconds: int) -> None:
    moment = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    found = retry_after(httpx.Response(429, headers={"retry-after": format_datetime(moment, usegmt=True)}))
    assert found is not None
    assert abs(found - max(0, seconds)) <= 5


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://10.0.0.7:8000/v1", None),
        ("https://solver.example/openai/v1", None),
        ("http://[::1]:8000/v1", None),
        ("http://me:hidden@host/v1", "user name or password"),
        ("http://hidden@host/v1", "user name or password"),
        ("https://host/v1?api-key=hidden", "behind ? or #"),
        ("https://host/v1#hidden", "behind ? or #"),
        ("host:8000/v1", "no URL of a server"),
        ("ftp://host/v1", "no URL of a server"),
        ("http:///v1", "no URL of a server"),
        ("http://a host/v1", "no URL of a server"),
        ("http://host:port/v1", "cannot be read"),
        (7, "no URL of a server"),
        ("", "no URL of a server"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_its_secrets(url: object, fault: str | None) -> None:
    found = url_fault(url)
    if fault is None:
        assert found is None
    else:
        assert found is not None
        assert fault in found
        assert "hidden" not in found


def test_a_key_is_read_from_the_environment_alone() -> None:
    assert key_of(None, {}) is None
    assert key_of("K", {"K": f" {KEY}\n"}) == KEY
    for environ in ({}, {"K": ""}, {"K": " \n"}):
        with pytest.raises(KeyMissingError, match="not set"):
            key_of("K", environ)
    with pytest.raises(KeyMissingError, match="holds signs that no key has") as error:
        key_of("K", {"K": f"{KEY}\n{KEY}"})
    assert KEY not in str(error.value)


def test_an_own_server_and_one_elsewhere_are_asked_at_the_same_path() -> None:
    with serving() as server:
        found = [ask([address])[0][0] for address in (server.address, server.url, f"{server.url}/")]
        assert [solutions[0].tokens for solutions in found] == [7] * 3
