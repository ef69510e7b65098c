"""Two ways to run the solver's engine, compared."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from analysis.bench import engines
from analysis.bench.server import answered, prompts, server_command
from guidelines_core.config.compose import compose


def test_the_ratio_is_of_the_medians_and_tokens_are_those_of_one_solution() -> None:
    config = compose("gsm8k-1.5b", environ={})
    found = engines.summary(dict.fromkeys(engines.ARMS, config), {"as it is": [9.0, 8.0, 30.0], "against": [4.5] * 3})
    assert found["ratio"] == 2.0
    first, second = found["arms"]
    assert (first["solutions"], first["tokens_per_solution"], first["median_s"]) == (32 * 8 * 4, 512, 9.0)
    assert (first["ms_per_token"], second["ms_per_token"]) == (17.6, 8.8)


def test_a_server_is_started_as_its_own_arm_says() -> None:
    config = compose("gsm8k-1.5b", ["reward.reward_model.rollout.load_format=dummy"], environ={})
    command = server_command(config, "127.0.0.1:9", None)
    options = dict(zip(command[3::2], command[4::2], strict=False))
    assert options["--load-format"] == "dummy"
    assert options["--max-num-seqs"] == "1024"


def test_prompts_differ_and_are_as_long_as_the_experiments_guidelines() -> None:
    short, long = (
        prompts(20, compose("quickstart", [f"data.max_response_length={length}"], environ={})) for length in (30, 600)
    )
    assert len({str(chat) for chat in short}) == 20
    words = [len(" ".join(message["content"] for message in chat[0]).split()) for chat in (short, long)]
    assert words[1] - words[0] == 400 - 20


def test_a_wrong_override_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert engines.main(["--name", "quickstart", "--against", "no.such=1", "--out", "x.json"]) == 2
    assert "no.such" in capsys.readouterr().err


def test_a_server_that_ends_ends_the_wait_for_its_answers() -> None:
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as server:
        with pytest.raises(RuntimeError, match="exit code 3"):
            asyncio.run(answered(server, asyncio.sleep(600)))
        assert asyncio.run(answered(server, asyncio.sleep(0, "text"))) == "text"
