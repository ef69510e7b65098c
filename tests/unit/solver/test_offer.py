"""Whether a server elsewhere can be the solver, asked before a run starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from guidelines_core.solver import offer
from guidelines_core.solver.offer import Fault, Wanted, faults
from tests.support.solver_server import Server, serving, several, whole

KEY = "planted-solver-key-51c0"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(offer, "TOKEN_S", 3.0)
    with serving() as told:
        yield told


def wanted(server: Server, **changed: Any) -> Wanted:
    plain = Wanted([server.url], "m", None, samples=1, temperature=0.0, seeded=True, context=1000)
    return replace(plain, **changed)


def only(found: list[Fault]) -> Fault:
    assert len(found) == 1
    return found[0]


def test_a_server_that_can_be_the_solver_wrote_one_token_as_it_will_be_asked(server: Server) -> None:
    server.models = [{"id": "m", "max_model_len": 1000}]
    assert faults(wanted(server, samples=4, temperature=0.7)) == []
    (asked,) = server.requests
    assert {name: asked[name] for name in ("model", "max_tokens", "n", "temperature", "seed")} == {
        "model": "m", "max_tokens": 1, "n": 4, "temperature": 0.7, "seed": 0
    }  # fmt: skip
    assert faults(wanted(server, seeded=False)) == []
    assert not {"seed", "n"} & server.requests[-1].keys()


def test_a_model_that_is_not_served_is_named_with_those_that_are_the_nearest_first(server: Server) -> None:
    server.models = [{"id": "whisper"}, {"id": "Qwen/Qwen2.5-3B-Instruct"}, {"id": "Qwen/Qwen2.5-7B-Instruct"}]
    found = only(faults(wanted(server, model="Qwen2.5-3B-instruct")))
    assert (found.key, found.value) == ("model", "Qwen2.5-3B-instruct")
    assert f"{server.url} serves Qwen/Qwen2.5-3B-Instruct, Qwen/Qwen2.5-7B-Instruct, whisper" in found.reason
    assert found.remedy == "did you mean Qwen/Qwen2.5-3B-Instruct?"
    assert server.requests == []


def test_of_many_models_the_nearest_are_named(server: Server) -> None:
    server.models = [{"id": f"model-{number}"} for number in range(40)]
    assert only(faults(wanted(server, model="model-7b"))).reason.endswith(" and 30 more")


def test_nobody_at_the_url_is_one_sentence() -> None:
    found = only(faults(wanted(Server(address="127.0.0.1:9"))))
    assert (found.key, found.value) == ("url", "http://127.0.0.1:9/v1")
    assert "no server answers there: ConnectError" in found.reason
    assert "\n" not in found.reason


def test_each_of_several_servers_is_looked_at(server: Server) -> None:
    found = only(faults(wanted(server, urls=[server.url, "http://127.0.0.1:9/v1", server.url])))
    assert found.value == "http://127.0.0.1:9/v1"


def test_a_context_that_is_too_short_is_an_error(server: Server) -> None:
    server.models = [{"id": "m", "max_model_len": 999}]
    found = only(faults(wanted(server)))
    assert "takes 999 tokens" in found.reason
    assert "--max-model-len 1256" in found.remedy


def test_a_server_without_a_list_of_models_is_asked_for_a_token_alone(server: Server) -> None:
    server.models_status = 404
    assert faults(wanted(server)) == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("models", [{"m": 1}, [7], [{"name": "m"}], None])
def test_what_is_no_list_of_models_is_said(server: Server, models: Any) -> None:
    server.models = models
    assert "no list of models" in only(faults(wanted(server))).reason


@pytest.mark.parametrize(
    ("failures", "bodies", "said"),
    [
        ([500] * 99, [], "HTTP status 500"),
        ([429] * 99, [], "HTTP status 429"),
        ([400], [], "HTTP status 400"),
        ([], [whole()[:-9]] * 99, "GarbledError"),
        ([], [several("one", "more")] * 99, "2 of 4 answers"),
    ],
)
def test_a_server_that_writes_no_token_is_refused_with_its_words(
    server: Server, failures: list[int], bodies: list[str], said: str
) -> None:
    server.failures, server.bodies = failures, bodies
    found = only(faults(wanted(server, samples=4)))
    assert found.key == "url"
    assert said in found.reason
    assert "guidelines.solver.samples=1" in found.remedy
    assert "guidelines.solver.seed=null" in found.remedy


def test_a_server_that_is_busy_for_a_moment_is_no_error(server: Server) -> None:
    server.failures = [429, 503]
    assert faults(wanted(server)) == []


def test_a_server_that_takes_too_long_for_a_token_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offer, "TOKEN_S", 1.0)
    server.delay_s = 2.0
    assert "ReadTimeout" in only(faults(wanted(server))).reason


def test_a_key_is_sent_and_a_wrong_or_missing_one_is_an_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOLVER_KEY", raising=False)
    found = only(faults(wanted(server, key_env="SOLVER_KEY")))
    assert (found.key, found.value) == ("key_env", "SOLVER_KEY")
    assert "SOLVER_KEY is not set" in found.reason
    monkeypatch.setenv("SOLVER_KEY", KEY)
    assert faults(wanted(server, key_env="SOLVER_KEY")) == []
    assert server.keys == [f"Bearer {KEY}"]
    server.echo_key, server.failures = True, [401]
    found = only(faults(wanted(server, key_env="SOLVER_KEY")))
    assert (found.key, found.value) == ("key_env", "SOLVER_KEY")
    assert "refuses the key in SOLVER_KEY: HTTP status 401" in found.reason
    assert KEY not in str(found)
    server.failures = [403]
    assert "refuses requests without a key" in only(faults(wanted(server))).reason
