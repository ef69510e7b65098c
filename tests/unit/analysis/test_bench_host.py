from __future__ import annotations

from typing import Any

import pytest

from analysis.bench import host


def fails(_: Any) -> None:
    """Be a server that ends before it has an address."""
    raise SystemExit(3)


@pytest.mark.timeout(60)
def test_a_server_that_fails_ends_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "serve", fails)
    with pytest.raises(EOFError):
        host.requests(1)
