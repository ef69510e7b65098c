from __future__ import annotations

import pytest

from analysis.bench import log_probs
from guidelines_core.verl_adapter import local_workers
from guidelines_core.verl_adapter.response_positions import IGNORED


def test_the_second_arm_computes_the_positions_that_predict_a_response(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    verls = local_workers.log_prob_kernel()

    class Kernel:
        def forward(self, states: object, weights: object, labels: object) -> object:
            counted.append(int((labels != IGNORED).sum()))  # type: ignore[attr-defined]
            return verls.forward(states, weights, labels)

    monkeypatch.setattr(local_workers, "log_prob_kernel", Kernel)
    found = log_probs.measure(hidden=4, vocab=11, rollouts=3, prompt=5, response=2)
    one_phase = [3 * 2, *[3 * 7, 3 * 2] * log_probs.REPEATS]
    assert counted == one_phase * 2
    assert set(found) == {"forward", "forward_and_backward"}


def test_a_model_of_unknown_shape_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["log_probs", "--model", "there/is-none"])
    with pytest.raises(SystemExit):
        log_probs.main()
    assert "--model=there/is-none" in capsys.readouterr().err
