"""A sweep that is killed again and again loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.axes import SPACES
from sweeps.space import Space
from tests.support.study import HERE, kill_and_continue

pytestmark = pytest.mark.slow


def test_killed_ten_times_and_continued_no_trial_is_lost_or_counted_twice(tmp_path: Path) -> None:
    kill_and_continue(Space.load(SPACES / "quick.yaml", "quickstart", (), HERE), tmp_path, 10, 18)
