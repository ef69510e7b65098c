from __future__ import annotations

from pathlib import Path

from guidelines_core.json_lines import GrowingFile, open_to_append, read_lines


def test_a_growing_file_gives_each_complete_line_once(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    file = GrowingFile(path)
    assert file.new() == []
    path.write_text('{"a": 1}\n{"a": ')
    assert file.new() == [{"a": 1}]
    assert file.new() == []
    with path.open("a") as stream:
        stream.write("2}\n")
    assert file.new() == [{"a": 2}]


def test_an_incomplete_last_line_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert read_lines(path) == []
    path.write_text('{"id": "a"}\n{"id": "b')
    with open_to_append(path) as stream:
        stream.write('{"id": "b"}\n')
    assert read_lines(path) == [{"id": "a"}, {"id": "b"}]
