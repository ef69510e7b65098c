from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from omegaconf.errors import ReadonlyConfigError

from guidelines_core.config import compose as composition
from guidelines_core.config.compose import ConfigError, changed, compose, experiments, search_path
from guidelines_core.paths import CONF, ROOT
from guidelines_core.runs.alarms import RULES, alarms_of
from guidelines_core.runs.provenance import parameters
from tests.support.composing import compose_as_hydra_does


@pytest.mark.parametrize("name", sorted(experiments()))
def test_every_experiment_composes(name: str) -> None:
    assert compose(name).trainer.experiment_name == name


def test_validation_may_have_longer_guidelines_and_both_contexts_have_room_for_them() -> None:
    usual = compose("quickstart")
    assert usual.guidelines.planner.val_max_tokens == usual.data.max_response_length == 32
    for tokens, more in ((100, 68), (20, 0)):
        config = compose("quickstart", [f"guidelines.planner.val_max_tokens={tokens}"])
        assert config.data.max_response_length == 32
        for key in ("actor_rollout_ref.rollout", "reward.reward_model.rollout"):
            engine, before = (OmegaConf.select(each, key) for each in (config, usual))
            assert engine.max_model_len == before.max_model_len + more


def test_validation_may_have_longer_solutions_and_the_solvers_context_has_room_for_them() -> None:
    usual = compose("quickstart")
    assert usual.guidelines.solver.val_max_tokens == usual.guidelines.solver.max_tokens
    for tokens, more in ((500, 500 - usual.guidelines.solver.max_tokens), (20, 0)):
        config = compose("quickstart", [f"guidelines.solver.val_max_tokens={tokens}"])
        assert config.guidelines.solver.max_tokens == usual.guidelines.solver.max_tokens
        length = config.reward.reward_model.rollout.max_model_len
        assert length == usual.reward.reward_model.rollout.max_model_len + more


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.train_batchsize=3", "did you mean data.train_batch_size"),
        ("nonsense=1", "there is no such key"),
        ("data.train_batch_size=three", "expected a whole number"),
        ("data.train_batch_size=2.5", "expected a whole number"),
        ("data.shuffle=3", "expected true or false"),
        ("actor_rollout_ref.actor.optim.lr=fast", "expected a number"),
        ("trainer.logger=3", "expected a list"),
        ("guidelines.grader.name=oracle", "expected one of math_verify, exact_match"),
        ("guidelines.prompts.style=loud", "expected one of instruct, few_shot"),
        ("guidelines.grader.deadline_s=0", "expected more than 0"),
        ("guidelines.grader.leak=maybe", "expected one of flag, zero"),
        ("guidelines.planner.val_max_tokens=0", "expected more than 0"),
        ("guidelines.solver.max_tokens=-1", "expected more than 0"),
        ("guidelines.solver.val_max_tokens=0", "expected more than 0"),
        ("guidelines.solver.temperature=-0.5", "expected 0 (greedy) or more"),
        ("guidelines.traces.train=-1", "expected 0 or more"),
        ("guidelines.cost.gpu_hour=-2", "expected more than 0"),
        ("guidelines.alarms.stop_on=[leek]", "expected names of alarms: nan, reward_falling, "),
        ("guidelines.alarms.limits.leek.above=0.1", "did you mean guidelines.alarms.limits.leak.above"),
        ("guidelines.alarms.webhook_env='https://hooks/T0'", "expected the name of an environment variable"),
        ("guidelines.solver.colour=red", "there is no such key"),
        ("guidelines.solver.url=host:8000/v1", "no URL of a server; expected http://HOST:PORT/v1"),
        ("guidelines.solver.url=[]", "an empty list"),
        ("guidelines.solver.url=[http://a/v1,ftp://b]", "no URL of a server"),
        ("guidelines.solver.key_env=SOLVER_KEY", "the run's own servers have no key"),
        ("what", "expected key=value"),
    ],
)
def test_a_bad_override_names_key_value_and_what_is_expected(override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose("quickstart", [override])
    assert expected in str(error.value)
    assert override.split("=")[0] in str(error.value)


def test_all_bad_overrides_are_listed_together() -> None:
    with pytest.raises(ConfigError) as error:
        compose("quickstart", ["data.train_batch_size=x", "trainer.save_frq=1"])
    assert "data.train_batch_size" in str(error.value)
    assert "trainer.save_freq" in str(error.value)


def test_an_unknown_experiment_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ConfigError, match="quickstart-exactmatch"):
        compose("quickstrt")


def test_overrides_reach_verl_and_our_own_section() -> None:
    config = compose("quickstart", ["data.train_batch_size=8", "guidelines.solver.temperature=0.7"])
    assert config.data.train_batch_size == 8
    assert config.guidelines.solver.temperature == 0.7


def test_the_environment_overrides_solver_and_grader() -> None:
    environ = {"VERL_GUIDELINES_SOLVER_MODEL": "some/model", "VERL_GUIDELINES_USE_MATH_VERIFY": "0"}
    config = compose("quickstart", environ=environ)
    assert config.reward.reward_model.model_path == "some/model"
    assert config.guidelines.grader.name == "exact_match"
    with pytest.raises(ConfigError, match="expected 0 or 1"):
        compose("quickstart", environ={"VERL_GUIDELINES_USE_MATH_VERIFY": "yes"})


def test_paths_are_anchored_to_the_repository(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    here = compose("quickstart")
    monkeypatch.chdir("/")
    assert compose("quickstart") == here
    assert here.trainer.default_local_dir == str(ROOT / "checkpoints/query-conditioned-guidelines/quickstart")


def test_other_problems_get_another_folder() -> None:
    assert compose("quickstart").data.train_files != compose("quickstart", ["guidelines.data.seed=1"]).data.train_files


@pytest.mark.parametrize("name", experiments())
def test_no_experiment_trusts_remote_code(name: str) -> None:
    trusts = [value for key, value in parameters(compose(name)).items() if key.endswith("trust_remote_code")]
    assert len(trusts) >= 2
    assert set(trusts) <= {"False", "None"}


@pytest.mark.parametrize(
    "overrides",
    [
        ["guidelines.solver.url='http://me:hidden@host/v1'"],
        ["guidelines.solver.url='https://host/v1?api-key=hidden'"],
        ["guidelines.solver.url=http://host/v1", "guidelines.solver.key_env=sk-hidden"],
        ["guidelines.solver.url=http://host/v1", "guidelines.solver.key_env=gsk_hidden"],
        ["guidelines.solver.url=http://h/v1", "guidelines.solver.key_env=K", "+guidelines.environment.K=hidden"],
    ],
)
def test_a_solvers_key_in_the_configuration_is_refused_and_not_repeated(overrides: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"recorded") as error:
        compose("quickstart", overrides, environ={})
    assert "hidden" not in str(error.value)


def test_a_secret_in_the_configuration_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"guidelines\.environment\.HF_TOKEN: .*export it"):
        compose("quickstart", ["+guidelines.environment.HF_TOKEN=hf_1234"])


def test_old_log_probs_of_the_rollout_need_what_they_are_made_and_measured_with() -> None:
    wanted = ["guidelines.old_log_probs.agreement=0.01"]
    assert compose("quickstart", wanted, environ={}).guidelines.old_log_probs.check_every == 10
    with pytest.raises(ConfigError, match="bypass_mode=True: no step measures the difference"):
        compose("quickstart", [*wanted, "algorithm.rollout_correction.bypass_mode=True"], environ={})
    with pytest.raises(ConfigError, match=r"calculate_log_probs=False: the rollout's log-probs are not kept"):
        compose("quickstart", [*wanted, "actor_rollout_ref.rollout.calculate_log_probs=False"], environ={})
    with pytest.raises(ConfigError, match=r"agreement=0.0: expected more than 0"):
        compose("quickstart", ["guidelines.old_log_probs.agreement=0.0"], environ={})


def test_other_content_of_a_source_has_another_folder_and_another_place_has_not(tmp_path: Path) -> None:
    def folder(source: Path) -> str:
        return str(compose("tiny", [f"guidelines.data.source={source}"]).data.train_files)

    source, elsewhere = tmp_path / "a" / "rows.jsonl", tmp_path / "b" / "rows.jsonl"
    for file in (source, elsewhere):
        file.parent.mkdir()
        file.write_text('{"problem": "1 + 1?", "answer": "2"}\n')
    first = folder(source)
    assert folder(elsewhere) == first
    source.write_text('{"problem": "2 + 2?", "answer": "4"}\n')
    assert folder(source) != first


@pytest.mark.parametrize("prefix", ["", "val_"])
def test_several_greedy_solutions_are_refused(prefix: str) -> None:
    greedy = [f"guidelines.solver.{prefix}samples=4", f"guidelines.solver.{prefix}temperature=0.0"]
    with pytest.raises(ConfigError, match=f"guidelines.solver.{prefix}samples=4 .*same solution 4 times"):
        compose("tiny", greedy, environ={})
    assert compose("tiny", [greedy[0], f"guidelines.solver.{prefix}temperature=0.7"], environ={})
    with pytest.raises(ConfigError, match=f"guidelines.solver.{prefix}samples=0: expected 1 or more"):
        compose("tiny", [f"guidelines.solver.{prefix}samples=0"], environ={})


def test_a_name_of_its_own_is_refused_and_not_ignored() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.experiment_name=foo: a run is called like its experiment, tiny"):
        compose("tiny", ["trainer.experiment_name=foo"])
    assert compose("tiny", ["trainer.experiment_name=tiny"]).trainer.experiment_name == "tiny"


@pytest.mark.parametrize("bounds", ["[0.9,0.1]", "[0.5]", "[-0.1,0.5]", "[0.1,1.5]"])
def test_bounds_of_a_pass_rate_that_are_none_are_refused(bounds: str) -> None:
    with pytest.raises(ConfigError, match=r"guidelines.data.pass_rate=.*expected .low, high. from 0 to 1"):
        compose("tiny", [f"guidelines.data.pass_rate={bounds}"], environ={})


def test_a_choice_by_pass_rate_is_another_data_set() -> None:
    files = {
        compose("tiny", overrides, environ={}).data.train_files
        for overrides in ([], ["guidelines.data.pass_rate=[0.1,0.9]"], ["guidelines.data.pass_rate=[0.2,0.9]"])
    }
    assert len(files) == 3


@pytest.mark.parametrize("name", ["a=b,c.jsonl", "a,b.jsonl", "it's (a) [b].jsonl", "a b{c}.jsonl"])
def test_a_value_with_signs_of_the_grammar_is_refused_with_the_way_to_write_it(name: str, tmp_path: Path) -> None:
    source = str(tmp_path / name)
    with pytest.raises(ConfigError) as caught:
        compose("tiny", [f"guidelines.data.source={source}"])
    said = str(caught.value).rpartition("is quoted: ")[2]
    (override,) = shlex.split(said)
    assert compose("tiny", [override]).guidelines.data.source == source


def test_a_folder_with_signs_of_the_grammar_is_a_search_path(tmp_path: Path) -> None:
    folder = tmp_path / "o'dd %20?x, [a=b]"
    assert OverridesParser.create().parse_override(search_path(folder)).value() == [f"file://{folder}"]


BROKEN: dict[str, str | bytes] = {
    "empty": "",
    "a-list": "- 1\n- 2\n",
    "a-word": "word\n",
    "no-yaml": "guidelines: [\n\t}",
    "no-text": b"guidelines:\n  description: \xff\xfe\n",
    "builds-on-nothing": "# @package _global_\nguidelines:\n  grader:\n    name: exact_match\n",
    "builds-on-what-is-not-there": "# @package _global_\ndefaults:\n  - no-such\n  - _self_\n",
    "no-mapping": "# @package _global_\ndefaults:\n  - quickstart\n  - _self_\nguidelines: 3\n",
}


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the experiments' folder that compose reads."""
    folder = tmp_path / "conf"
    shutil.copytree(CONF, folder)
    monkeypatch.setattr(composition, "CONF", folder)
    composition._plain.cache_clear()
    return folder


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_experiment_breaks_only_itself(conf: Path, name: str) -> None:
    text = BROKEN[name]
    (conf / f"{name}.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert set(experiments()) > {"quickstart", name}
    compose("quickstart")
    with pytest.raises(ConfigError, match=f"{name}|no-such"):
        compose(name)


def test_an_experiment_needs_no_description_of_its_own(conf: Path) -> None:
    (conf / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - quickstart\n  - _self_\nguidelines:\n  grader:\n    name: exact_match\n"
    )
    assert experiments()["mine"] == ""
    assert compose("mine").guidelines.grader.name == "exact_match"


def test_a_composed_configuration_is_read_only_and_a_changed_copy_is_too() -> None:
    config = compose("quickstart")
    with pytest.raises(ReadonlyConfigError):
        config.trainer.save_freq = 3
    other = changed(config, {"trainer.save_freq": 3, "trainer.new": 4})
    assert (other.trainer.save_freq, other.trainer.new) == (3, 4)
    assert config == compose("quickstart")
    with pytest.raises(ReadonlyConfigError):
        other.trainer.save_freq = 5


def test_the_agent_loop_is_in_the_file_that_verls_workers_read() -> None:
    agent = compose("quickstart").actor_rollout_ref.rollout.agent
    (entry,) = yaml.safe_load(Path(agent.agent_loop_config_path).read_text())
    assert (entry["name"], entry["_target_"]) == (
        agent.default_agent_loop,
        "guidelines_core.verl_adapter.rollout.GuidelineRollout",
    )


def test_the_address_of_a_webhook_is_not_repeated_in_its_refusal() -> None:
    with pytest.raises(ConfigError) as error:
        compose("quickstart", ["guidelines.alarms.webhook_env='https://hooks/T0'"])
    assert "hooks" not in str(error.value)


def test_every_rule_of_the_alarms_has_its_limits() -> None:
    assert set(compose("quickstart").guidelines.alarms.limits) == set(RULES)
    with pytest.raises(ConfigError, match="stop_on=leak: expected names of alarms"):
        compose("quickstart", ["guidelines.alarms.limits.leak=null", "guidelines.alarms.stop_on=[leak]"])


def test_limits_that_an_alarm_cannot_compute_with_are_refused() -> None:
    limits = "guidelines.alarms.limits"
    wrong = {
        f"{limits}.leak.above=null": f"{limits}.leak.above=null: expected a number; {limits}.leak=null turns",
        f"{limits}.reward_flat.steps=2": f"{limits}.reward_flat.steps=2: expected a number of 3 or more",
        f"{limits}.reward_falling.steps=1": f"{limits}.reward_falling.steps=1: expected a number of 2 or more",
        f"{limits}.kl_spike.after=0": f"{limits}.kl_spike.after=0: expected a number of 1 or more",
        f"~{limits}.disk.below": f"{limits}.disk.below=null: expected a number",
        f"+{limits}.leek.above=0.1": f"{limits}.leek: there is no such alarm; expected one of nan, ",
    }
    with pytest.raises(ConfigError) as caught:
        compose("quickstart", list(wrong), environ={})
    said = str(caught.value).splitlines()
    assert len(said) == len(wrong)
    for begin in wrong.values():
        assert [line for line in said if line.startswith(begin)], begin
    steps = [{"training/global_step": float(step), "reward/mean": 0.1 * step} for step in range(9)]
    for name, least in {"reward_flat": 3, "reward_falling": 2}.items():
        given = [f"{limits}.{name}.steps={least}", f"{limits}.leak=null"]
        own: Any = OmegaConf.to_container(compose("quickstart", given, environ={}).guidelines.alarms.limits)
        assert isinstance(alarms_of(steps, own), list)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("tiny", ["+guidelines.environment.X=1", "~guidelines.environment.OMP_NUM_THREADS", "trainer.logger=[file]"]),
        ("numinamath30k-3b-300steps-mathverify-fast", ["layout=1p1", "guidelines.grader.leak=zero", "data.seed=3"]),
    ],
)
def test_the_tests_compose_what_hydra_composes(
    name: str, overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = compose(name, overrides, environ={})
    compose_as_hydra_does(monkeypatch)
    assert compose(name, overrides, environ={}) == fast
