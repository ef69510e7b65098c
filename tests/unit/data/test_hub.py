from __future__ import annotations

import pytest

from guidelines_core.data import hub
from guidelines_core.data.problems import DatasetError


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("AI-MO/NuminaMath-CoT", ("AI-MO/NuminaMath-CoT", None)),
        ("openai/gsm8k:main", ("openai/gsm8k", "main")),
        ("openai/gsm8k:", None),
        ("gsm8k", None),
        ("a/b/c", None),
        ("openai/gsm8k:main:x", None),
    ],
)
def test_a_name_on_the_hub_may_have_a_configuration(source: str, found: tuple[str, str | None] | None) -> None:
    assert hub.split(source) == found


def test_of_several_configurations_one_is_needed_and_all_are_named() -> None:
    name, there = "openai/gsm8k", ["main", "socratic"]
    assert hub.chosen(name, "socratic", there) == "socratic"
    with pytest.raises(DatasetError, match=r"2 configurations, of which one is needed: openai/gsm8k:main, .*:socratic"):
        hub.chosen(name, None, there)
    with pytest.raises(DatasetError, match="no such configuration: name openai/gsm8k:main, openai/gsm8k:socratic"):
        hub.chosen(name, "platonic", there)


def test_of_one_configuration_none_need_be_named() -> None:
    assert hub.chosen("AI-MO/NuminaMath-CoT", None, ["default"]) == "default"
    assert hub.chosen("a/b", None, []) is None


def test_the_refusal_reaches_whoever_reads_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.get_dataset_config_names", lambda name: ["main", "socratic"])
    with pytest.raises(DatasetError, match="one is needed: openai/gsm8k:main"):
        next(hub.rows("openai/gsm8k"))
