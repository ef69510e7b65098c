"""Short waits between two tries."""

from __future__ import annotations

import pytest
import tenacity

from guidelines_core.solver import client


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BACKOFF", tenacity.wait_exponential_jitter(multiplier=0.02, max=0.2, jitter=0.05))
