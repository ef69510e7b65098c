from __future__ import annotations

import hashlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from guidelines_core.digests import file_sha256, text_seed, text_sha256


@given(st.text())
def test_a_texts_digest_and_seed_are_of_its_utf8_bytes(text: str) -> None:
    digest = hashlib.sha256(text.encode())
    assert text_sha256(text) == digest.hexdigest()
    assert text_seed(text) == int.from_bytes(digest.digest()[:4], "big")


def test_a_files_digest_is_of_all_its_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000  # more than one block
    (tmp_path / "file").write_bytes(content)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
