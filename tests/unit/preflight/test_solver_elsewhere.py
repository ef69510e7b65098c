"""A solver at `guidelines.solver.url`: what preflight refuses, and what it no longer asks for."""

from __future__ import annotations

from omegaconf import DictConfig

from guidelines_core.config.compose import compose
from guidelines_core.hardware.gpus import named_machine
from guidelines_core.hardware.shapes import find_shape
from guidelines_core.preflight import config_findings
from guidelines_core.preflight.files import model_keys
from guidelines_core.preflight.findings import Finding
from guidelines_core.preflight.gpus import memory_findings, missing_gpus
from guidelines_core.preflight.inside import _hub_findings, server_findings
from guidelines_core.preflight.machine import cluster_findings, main_memory_findings
from tests.support.solver_server import serving

REFERENCE = "numinamath30k-3b-300steps-mathverify"
POOL = "reward.reward_model.enable_resource_pool"
URL = "guidelines.solver.url=http://127.0.0.1:9/v1"


def composed(*overrides: str, name: str = "quickstart") -> DictConfig:
    return compose(name, overrides, environ={})


def errors(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.severity == "error"]


def test_a_url_and_a_layout_with_a_solver_are_refused_together() -> None:
    for layout in ("cpu", "1p1", "hybrid-3p1", "split-1p2p1", "colocated-1"):
        found = [f for f in config_findings(composed(f"layout={layout}", URL)) if f.key == "guidelines.solver.url"]
        (finding,) = errors(found)
        assert finding.value == "http://127.0.0.1:9/v1"
        assert "layout=train-only-1, train-only-4 or cpu-train-only" in finding.remedy


def test_a_layout_without_a_solver_is_refused_without_a_url() -> None:
    for layout in ("train-only-1", "train-only-4", "cpu-train-only"):
        found = [f for f in config_findings(composed(f"layout={layout}")) if f.key == "guidelines.solver.url"]
        (finding,) = errors(found)
        assert finding.value is None
        assert "http://HOST:PORT/v1" in finding.remedy


def test_nothing_is_asked_for_a_solver_elsewhere() -> None:
    for layout, machine in (("train-only-1", "1xH100"), ("train-only-4", "4xH100")):
        config = composed(f"layout={layout}", URL, "guidelines.solver.model=nobody/knows", name=REFERENCE)
        planner = find_shape(config.actor_rollout_ref.model.path)
        there = named_machine(machine)
        assert errors(config_findings(config)) == []
        assert missing_gpus(config, there, named=True) is None
        assert missing_gpus(config, there[:-1], named=False) is not None
        assert errors(list(memory_findings(config, planner, there))) == []
        assert list(model_keys(config)) == ["actor_rollout_ref.model.path"]
        assert "guidelines.solver.model" not in [finding.key for finding in _hub_findings(config)]
        assert list(main_memory_findings(config, planner, None, 10**9)), "the planner's own memory is still looked at"
    on_cpu = composed("layout=cpu-train-only", URL)
    assert errors([*config_findings(on_cpu), *cluster_findings(on_cpu, 2)]) == []


def test_gpus_that_are_kept_for_a_solver_elsewhere_are_an_error() -> None:
    found = errors(config_findings(composed("layout=train-only-1", URL, f"{POOL}=True", name=REFERENCE)))
    assert [finding.key for finding in found] == [POOL]


def test_a_trainer_whose_rollout_has_its_own_gpus_takes_a_solver_elsewhere() -> None:
    mini = "actor_rollout_ref.actor.ppo_mini_batch_size=30"
    split = ["layout=split-1p2p1", mini, "reward.reward_model.enable=False", f"{POOL}=False", URL]
    beside = [*split, "guidelines.rollout_beside_solver=True"]
    found = errors(config_findings(composed(*beside, name=f"{REFERENCE}-fast")))
    assert "guidelines.rollout_beside_solver" in [finding.key for finding in found]
    assert errors(config_findings(composed(*split, name=f"{REFERENCE}-fast"))) == []


def test_the_servers_are_asked_for_what_the_run_will_ask_for() -> None:
    with serving() as server:
        server.models = [{"id": "its", "max_model_len": 312 + 32 + 99}]
        words = ["layout=cpu-train-only", "guidelines.solver.model=its", f"guidelines.solver.url={server.url}"]
        more = ["guidelines.solver.val_samples=3", "guidelines.solver.val_temperature=0.5"]
        assert list(server_findings(composed(*words, *more, "guidelines.solver.val_max_tokens=99"))) == []
        assert (server.requests[0]["n"], server.requests[0]["temperature"]) == (3, 0.5)
        (finding,) = server_findings(composed(*words, "guidelines.solver.val_max_tokens=100"))
        assert "takes 443 tokens" in finding.reason
        (finding,) = server_findings(composed(*words, "guidelines.solver.model=other"))
        assert (finding.severity, finding.key, finding.value) == ("error", "guidelines.solver.model", "other")
    assert list(server_findings(composed())) == []
    # A layout with a place for the solver is refused already.
    assert list(server_findings(composed(URL))) == []
