from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guidelines_core.verl_adapter.early_reference import COMPLETE, EarlyReference, all_written


@given(st.lists(st.sampled_from([{}, {"seq_len": 9}, {"seq_len": 9, COMPLETE: True}])), st.integers(1, 8))
def test_a_step_is_written_when_the_tokens_of_all_its_guidelines_are_there(
    tags: list[dict[str, object]], rollouts: int
) -> None:
    complete = sum(COMPLETE in tag for tag in tags)
    assert all_written({str(n): tag for n, tag in enumerate(tags)}, rollouts) == (complete == rollouts)


class Engines:
    """Counts how often the rollout engines are put to sleep."""

    slept = 0

    def on_sample_end(self) -> None:
        self.slept += 1


class Trainer(EarlyReference, Engines):
    """The mixin over the counter."""


def test_engines_that_sleep_are_not_put_to_sleep_again() -> None:
    trainer = Trainer()
    trainer.on_sample_end()
    assert trainer.slept == 1
    trainer._put_to_sleep()
    trainer.on_sample_end()
    assert trainer.slept == 2
    trainer.on_sample_end()
    assert trainer.slept == 3
