"""Every row schema, every reason to drop a row, and what becomes of the files when something goes wrong."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from guidelines_core import prompts
from guidelines_core.data.dataset import prepare
from guidelines_core.data.manifest import Manifest, histogram, verify
from guidelines_core.data.prepare import main
from guidelines_core.data.problems import MAX_CHARACTERS, DatasetError, Drop, Problem, boxed_answers, parse_row
from guidelines_core.models.bundled import ensure_model
from guidelines_core.paths import ROOT


def sums(count: int) -> list[dict[str, str]]:
    return [{"problem": f"What is {n} plus {n * n}?", "answer": str(n + n * n)} for n in range(count)]


def write_lines(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(out: Path, split: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(out / f"{split}.parquet").to_pylist()
    return rows


def golds_of(out: Path) -> dict[str, str]:
    rows = rows_of(out, "train") + rows_of(out, "val")
    return {row["extra_info"]["question"]: row["reward_model"]["ground_truth"] for row in rows}


@pytest.mark.parametrize(
    ("row", "gold"),
    [
        ({"problem": "1 + 1?", "answer": "2"}, "2"),
        ({"question": "1 + 1?", "answer": 2}, "2"),
        ({"question": "Half of 1?", "answer": 0.5}, "0.5"),
        ({"question": "Sum?", "answer": 65.0}, "65"),
        ({"question": "Loss?", "answer": -3.0}, "-3"),
        ({"question": "Large?", "answer": 1e20}, "100000000000000000000"),
        ({"question": "Sum?", "answer": Decimal("65.00")}, "65"),
        ({"question": "Half of 1?", "answer": Decimal("0.5")}, "0.5"),
        ({"question": "Written so?", "answer": "65.0"}, "65.0"),
        ({"problem": "Answer missing?", "answer": float("nan"), "solution": r"\boxed{5}"}, "5"),
        ({"problem": "Answer missing?", "answer": "None", "solution": r"\boxed{5}"}, "5"),
        ({"problem": None, "question": "Other column?", "answer": "5"}, "5"),
        ({"problem": float("nan"), "question": "Other column?", "answer": "5"}, "5"),
        ({"problem": "No source?", "answer": "5", "source": float("nan")}, "5"),
        ({"problem": "Validity unknown?", "answer": "5", "problem_is_valid": float("nan")}, "5"),
        ({"question": "Eggs?", "answer": "16 - 3 = <<16-3=13>>13.\n#### 18"}, "18"),
        ({"question": "Marks?", "answer": "We write #### 17 first.\n#### 18"}, "18"),
        ({"question": "Profit?", "answer": "It is 1,500 more.\n#### 71,500 "}, "71500"),
        ({"problem": "Where?", "solution": r"First 2, so $\boxed{\frac{1}{2}}$."}, r"\frac{1}{2}"),
        ({"problem": "Set?", "solution": r"\boxed{\left\{1, \{2\} \right\}} "}, r"\left\{1, \{2\} \right\}"),
        (
            {"problem": "Half-open?", "solution": r"$\boxed{\left\{x \mid x > 1\right.}$"},
            r"\left\{x \mid x > 1\right.",
        ),
        ({"problem": "Angle?", "answer": r"336^\circ"}, r"336^\circ"),
        ({"problem": "Twice?", "solution": r"$x = \boxed{ 5 }$ so \boxed{5}."}, "5"),
        ({"problem": "Null answer?", "answer": None, "solution": r"\boxed{5}"}, "5"),
        ({"problem": "Day?", "answer": r"\text{Tuesday}"}, r"\text{Tuesday}"),
        ({"problem": "Interval?", "answer": r"[1, 2) \cup (3, 4)"}, r"[1, 2) \cup (3, 4)"),
        ({"problem": "Factor.", "answer": "(2) (x+2) (x-2)"}, "(2) (x+2) (x-2)"),
        ({"problem": "Find x from (2). Then (1) is true.", "solution": r"\boxed{7}"}, "7"),
        ({"problem": "Let f(1) = 2 and f(2) = 3.", "solution": r"\boxed{7}"}, "7"),
        ({"problem": "Let x be in (0, 1) and y in (1, 2).", "solution": r"\boxed{7}"}, "7"),
        ({"problem": "Which? (A) 3 (B) 4 (C) 5", "answer": r"\textbf{(B)}"}, r"\textbf{(B)}"),
        ({"problem": "Which?\nA. 3\nB. 4\nC. 5\nD. 6", "solution": r"\boxed{D}"}, "D"),
    ],
)
def test_gold_of_a_row(row: Mapping[str, object], gold: str) -> None:
    problem = parse_row(row, "mine")
    assert isinstance(problem, Problem), problem
    assert problem.gold == gold
    assert problem.source == "mine"


ONE_POINT_FIVE = {"problem_type": "Algebra", "question_type": "math-word-problem", "source": "olympiads"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([1, 2], Drop.WRONG_TYPE),
        ({"answer": "2"}, Drop.MISSING_FIELD),
        ({"problem": "1 + 1?"}, Drop.MISSING_FIELD),
        ({"problem": " ", "answer": "2"}, Drop.EMPTY_FIELD),
        *(
            ({"problem": "1 + 1?", "answer": missing}, Drop.MISSING_FIELD)
            for missing in (float("nan"), Decimal("nan"), "nan", "NaN", "None", "null", "N/A", "<NA>", " none ")
        ),
        ({"problem": "nan", "answer": "2"}, Drop.MISSING_FIELD),
        ({"problem": "1 + 1?", "answer": ""}, Drop.EMPTY_FIELD),
        ({"problem": "1 + 1?", "answer": "So it is\n#### "}, Drop.EMPTY_FIELD),
        ({"problem": ["1 + 1?"], "answer": "2"}, Drop.WRONG_TYPE),
        ({"problem": 3, "answer": "2"}, Drop.WRONG_TYPE),
        ({"problem": "1 + 1?", "answer": True}, Drop.WRONG_TYPE),
        ({"problem": "1 + 1?", "answer": "2", "source": 3}, Drop.WRONG_TYPE),
        ({"problem": "x" * (MAX_CHARACTERS + 1), "answer": "2"}, Drop.TOO_LONG),
        ({"problem": "1 + 1?", "answer": "2" * (MAX_CHARACTERS + 1)}, Drop.TOO_LONG),
        ({"problem": "1?", "solution": r"\boxed{" + "2" * MAX_CHARACTERS + "1}"}, Drop.TOO_LONG),
        ({"problem": "1 \0 1?", "answer": "2"}, Drop.NULL_BYTES),
        ({"problem": "1 + 1?", "answer": "\0"}, Drop.NULL_BYTES),
        ({"problem": "1 \ud800 1?", "answer": "2"}, Drop.INVALID_UTF8),
        ({"problem": "1 + 1?", "solution": "It is 2."}, Drop.NO_BOXED_ANSWER),
        ({"problem": "1 + 1?", "solution": r"It is \boxed{}."}, Drop.NO_BOXED_ANSWER),
        ({"problem": "1 + 1?", "solution": r"\boxed{1}, and at last \boxed{2"}, Drop.NO_BOXED_ANSWER),
        ({"problem": "Prove that 1 > 0.", "solution": r"\boxed{1 > 0}"}, Drop.PROOF),
        ({"problem": "Show first that 1 > 0.", "solution": r"\boxed{1}"}, Drop.PROOF),
        (ONE_POINT_FIVE | {"problem": "Is 1 > 0?", "answer": "proof"}, Drop.PROOF),
        (ONE_POINT_FIVE | {"problem": "Is 1 > 0?", "answer": "notfound"}, Drop.PROOF),
        (ONE_POINT_FIVE | {"problem": "1?", "answer": "1", "question_type": "proof"}, Drop.PROOF),
        (ONE_POINT_FIVE | {"problem": "1?", "answer": "1", "problem_is_valid": "No"}, Drop.MARKED_INVALID),
        (
            ONE_POINT_FIVE | {"problem": "1?", "answer": "1", "solution_is_valid": "Incomplete"},
            Drop.MARKED_INVALID,
        ),
        ({"problem": "Which graph is it?", "answer": "C"}, Drop.MULTIPLE_CHOICE),
        ({"problem": "Which graph is it?", "answer": r"\text{(E)},"}, Drop.MULTIPLE_CHOICE),
        ({"problem": "Which graphs is it?", "answer": r"\text{A, C}"}, Drop.MULTIPLE_CHOICE),
        ({"problem": "Angle in A, B and C?", "solution": r"\boxed{\text{A}}"}, Drop.MULTIPLE_CHOICE),
        ({"problem": "Which? (A) 3 (B) 4 (C) 5", "answer": r"\textbf{(B)}\ 4"}, Drop.MULTIPLE_CHOICE),
        ({"problem": "x and y?", "answer": "(a) 3, (b) 4"}, Drop.MULTI_PART),
        ({"problem": "x and y?", "answer": r"\text{1) } 3; \text{2) } 4"}, Drop.MULTI_PART),
        ({"problem": "x and y?", "solution": r"$x = \boxed{3}$ and $y = \boxed{4}$"}, Drop.MULTI_PART),
        ({"problem": "(1) Find x. (2) Find y.", "solution": r"\boxed{3}"}, Drop.MULTI_PART),
        ({"problem": "Find\n1. x\n2. y", "solution": r"\boxed{3}"}, Drop.MULTI_PART),
        ({"problem": "a) Find x.\nb) Find y.", "solution": r"\boxed{3}"}, Drop.MULTI_PART),
        ({"problem": "Who wins?", "answer": r"\text{the first player always wins}"}, Drop.PROSE),
    ],
    ids=lambda value: value.value if isinstance(value, Drop) else "",
)
def test_unusable_row_is_dropped_for_its_reason(row: object, reason: Drop) -> None:
    assert parse_row(row, "mine") is reason


def test_row_of_numina_1_5_keeps_its_source() -> None:
    row = ONE_POINT_FIVE | {
        "problem": "1?",
        "answer": "1",
        "problem_is_valid": "Yes",
        "solution_is_valid": "Yes",
    }
    assert parse_row(row, "mine") == Problem("1?", "1", "olympiads")


@pytest.mark.parametrize(
    ("solution", "answers"),
    [
        (r"\boxed{a \boxed{b}} \fbox{c}", [r"a \boxed{b}", "c"]),
        (r"\boxed 5 and \boxed\pi", ["5", r"\pi"]),
        (r"\boxedtext{5}", []),
    ],
)
def test_boxed_answers(solution: str, answers: list[str]) -> None:
    assert boxed_answers(solution) == answers


@pytest.mark.parametrize("piece", ["A. B. ", "(1) ", "\n1. ", "prove ", "{", r"\boxed{", "show a ", "(a) (A) "])
def test_row_made_to_be_slow_is_read_in_linear_time(piece: str) -> None:
    question = piece * (MAX_CHARACTERS // len(piece))
    start = time.process_time()
    for gold in ({"answer": "A"}, {"answer": question}, {"solution": question * 10 + r"\boxed{A}"}):
        parse_row({"problem": question} | gold, "mine")
    assert time.process_time() - start < 1


def test_problem_id_ignores_spacing_and_case_alone() -> None:
    def problem_id(question: str) -> str:
        return Problem(question, "1", "mine").problem_id

    assert problem_id("Find  $x$.\n") == problem_id("find $x$.")
    assert problem_id("Find $x+1$.") != problem_id("Find $x-1$.")
    assert problem_id("Find $x$.") == "45e21f3263545083"


def test_rows_are_what_verl_reads(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "sums.jsonl", [row | {"source": "books"} for row in sums(20)])
    manifest = prepare(str(source), tmp_path / "out", size=10, seed=0, val_size=4)
    train, val = rows_of(tmp_path / "out", "train"), rows_of(tmp_path / "out", "val")
    assert (len(train), len(val), manifest.not_selected) == (10, 4, 6)
    for split, rows in (("train", train), ("val", val)):
        for index, row in enumerate(rows):
            question = row["extra_info"]["question"]
            gold = next(r["answer"] for r in sums(20) if r["problem"] == question)
            assert row == {
                "data_source": "sums",
                "prompt": prompts.planner_messages(question),
                "ability": "math",
                "reward_model": {"style": "rule", "ground_truth": gold},
                "extra_info": {
                    "index": index,
                    "question": question,
                    "split": split,
                    "source": "books",
                    "problem_id": Problem(question, gold, "").problem_id,
                    "baseline": None,
                },
            }
    assert not {r["extra_info"]["problem_id"] for r in train} & {r["extra_info"]["problem_id"] for r in val}
    assert manifest.kept_by_source == {"books": 14}


def test_other_prompt_reaches_the_rows(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "sums.jsonl", sums(4))

    def shout(question: str) -> list[prompts.Message]:
        return [{"role": "system", "content": "Help."}, {"role": "user", "content": question.upper()}]

    prepare(str(source), tmp_path / "out", size=4, seed=0, planner_messages=shout)
    row = rows_of(tmp_path / "out", "train")[0]
    assert row["prompt"] == shout(row["extra_info"]["question"])


def test_same_seed_same_bytes_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = [
        *sums(60),
        *({"problem": f"  what is {n} PLUS {n * n}?", "answer": str(n + n * n)} for n in range(30)),
    ]
    outs = []
    for name, ordered in (("one", rows), ("two", rows[::-1]), ("three", rows)):
        (tmp_path / name).mkdir()
        source = write_lines(tmp_path / name / "sums.jsonl", ordered)
        outs.append(tmp_path / name / "out")
        prepare(str(source), outs[-1], size=20, seed=1 + (name == "three"), val_size=5)
    for file in ("train.parquet", "val.parquet"):
        first, second, other_seed = ((out / file).read_bytes() for out in outs)
        assert first == second
        assert first != other_seed


def test_manifest_is_the_same_bytes_twice(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "sums.jsonl", [*sums(20), 3, {}, *sums(2)])
    manifests = []
    for name in ("one", "two"):
        prepare(str(source), tmp_path / name, size=20, seed=0)
        manifests.append((tmp_path / name / "manifest.json").read_bytes())
    assert manifests[0] == manifests[1]


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    source = tmp_path / "mixed.jsonl"
    good = "".join(json.dumps(row) + "\n" for row in sums(30)).encode()
    clash = [{"problem": "Who?", "answer": answer} for answer in "123"]
    clash_lines = "".join(json.dumps(row) + "\n" for row in clash).encode()
    source.write_bytes(
        b"\xef\xbb\xbf" + good + b'{"problem": "\xff?", "answer": "1"}\n{"problem": \n\n' + b"[" * 100_000 + b"\n"
        b'{"problem": "What is  0 plus 0?", "answer": "0"}\n{"problem": "Which?", "answer": "?"}\n' + clash_lines
    )
    manifest = prepare(
        str(source), tmp_path / "out", size=12, seed=0, val_size=100, gold_parses=lambda gold: gold != "?"
    )
    assert manifest.dropped == {
        "conflicting_golds": 3,
        "duplicate": 1,
        "gold_unparseable": 1,
        "invalid_utf8": 1,
        "malformed_json": 2,
    }
    assert manifest.golds_checked
    assert (manifest.val_rows, manifest.train_rows, manifest.not_selected) == (6, 12, 12)
    assert manifest.rows_read == 38 == sum(manifest.dropped.values()) + 30
    assert "Who?" not in golds_of(tmp_path / "out")
    assert Manifest.load(tmp_path / "out") == manifest


@pytest.mark.parametrize("kind", ["jsonl", "json", "lines.json", "parquet"])
def test_every_kind_of_file_gives_the_same_problems(tmp_path: Path, kind: str) -> None:
    rows, source = sums(12), tmp_path / f"sums.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([row | {"level": 3, "messages": []} for row in rows]), source)
    elif kind == "json":
        source.write_text(json.dumps(rows, indent=1))
    else:
        write_lines(source, rows)
    prepare(str(source), tmp_path / "out", size=12, seed=0)
    assert golds_of(tmp_path / "out") == {row["problem"]: row["answer"] for row in rows}


def test_broken_string_in_parquet_costs_one_row(tmp_path: Path) -> None:
    golds = pa.array([b"1", b"2", b"\xff", b"4"], pa.binary()).view(pa.string())
    table = pa.table({"question": [f"Number {n}?" for n in range(4)], "answer": golds})
    pq.write_table(table, tmp_path / "broken.parquet")
    manifest = prepare(str(tmp_path / "broken.parquet"), tmp_path / "out", size=9, seed=0)
    assert manifest.dropped == {"invalid_utf8": 1}
    assert golds_of(tmp_path / "out") == {"Number 0?": "1", "Number 1?": "2", "Number 3?": "4"}


def test_gold_that_the_grader_cannot_parse_is_dropped_unless_the_check_is_off(tmp_path: Path) -> None:
    rows = [*sums(5), {"problem": "Half?", "answer": r"\frac{1}{2}"}, {"problem": "?", "answer": r"\frac{"}]
    source = str(write_lines(tmp_path / "sums.jsonl", rows))
    checked = prepare(source, tmp_path / "checked", size=9, seed=0)
    assert (checked.dropped, checked.golds_checked) == ({"gold_unparseable": 1}, True)
    assert "Half?" in golds_of(tmp_path / "checked")
    unchecked = prepare(source, tmp_path / "unchecked", size=9, seed=0, gold_parses=None)
    assert (unchecked.dropped, unchecked.golds_checked) == ({}, False)


def test_word_problems_are_a_source(tmp_path: Path) -> None:
    manifest = prepare("word-problems", tmp_path / "out", size=40, seed=3, val_size=8)
    assert (manifest.train_rows, manifest.val_rows, manifest.dropped) == (40, 8, {})
    assert manifest.kept_by_source == {"word-problems": 48}


def parquet_bytes(columns: Mapping[str, Sequence[object]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "picture.jsonl",
            bytes(range(256)) * 100,
            r"has 0 usable problems in \d+ rows \(dropped: invalid_utf8",
        ),
        ("empty.jsonl", b"", r"has 0 usable problems in 0 rows \(dropped: none\)"),
        ("one.jsonl", b'{"problem": "1?", "answer": "1"}\n', "has 1 usable problems .* expected at least 2"),
        ("half.json", b'[{"problem": "1?", "answer": "1"}, {"pro', "begins like a JSON array but is not one"),
        ("none.parquet", b"no parquet at all", "cannot be read as parquet"),
        ("cut.parquet", parquet_bytes({"problem": ["1?"]})[:-9], "cannot be read as parquet"),
        ("text.parquet", parquet_bytes({"text": ["a"]}), "has the columns text and no problem or question"),
        ("notes.txt", b"notes", r"ends in '.txt'; expected a .jsonl, .json, .csv"),
        ("sums.parquet.gz", b"\x1f\x8b", r"ends in '.gz'; expected a .jsonl, .json, .csv"),
        ("cut.jsonl.gz", b"\x1f\x8b", "cannot be unpacked"),
        ("none.jsonl.gz", b"no gzip", "cannot be unpacked"),
        ("windows.jsonl", "{}\n".encode("utf-16"), "is UTF-16: convert it by iconv"),
        ("absent.jsonl", None, "is not there or cannot be read: name a"),
        ("", None, "is not there or cannot be read: name a"),
    ],
)
def test_bad_source_is_one_clear_error(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / name
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(DatasetError, match=message) as caught:
        prepare(str(source), tmp_path / "out", size=9, seed=0)
    assert str(source) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["dataset_info.json", "dataset_dict.json"])
def test_a_folder_that_datasets_cannot_read_is_refused(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("{}")
    with pytest.raises(DatasetError, match="is no folder that datasets"):
        prepare(str(tmp_path), tmp_path / "out", size=9, seed=0)


@pytest.mark.parametrize(("key", "value"), [("size", 0), ("val_size", -1)])
def test_bad_size_is_refused(tmp_path: Path, key: str, value: int) -> None:
    sizes: dict[str, Any] = {"size": 9, "val_size": 9} | {key: value}
    with pytest.raises(DatasetError, match=f"{key} is {value}, expected 1 or more"):
        prepare("word-problems", tmp_path / "out", seed=0, **sizes)


def test_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    source = tmp_path.parent / f"{tmp_path.name}.jsonl"
    write_lines(source, sums(9))
    with pytest.raises(DatasetError, match=r"holds thesis.tex, .*name a new folder"):
        prepare(str(source), tmp_path, size=9, seed=0)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_failed_preparation_leaves_the_older_data_set(tmp_path: Path) -> None:
    def fail(question: str) -> list[prompts.Message]:
        raise RuntimeError("no prompt")

    prepare("word-problems", tmp_path / "out", size=9, seed=0)
    before = (tmp_path / "out" / "train.parquet").read_bytes()
    with pytest.raises(RuntimeError, match="no prompt"):
        prepare("word-problems", tmp_path / "out", size=9, seed=1, planner_messages=fail)
    assert (tmp_path / "out" / "train.parquet").read_bytes() == before
    assert verify(tmp_path / "out") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock", "out"]


def test_verify_finds_every_change(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "manifest.json does not exist" in verify(out)[0]
    prepare("word-problems", out, size=9, seed=0)
    assert verify(out) == []
    for name in ("train.parquet", "val.parquet"):
        content = bytearray((out / name).read_bytes())
        content[len(content) // 2] ^= 1
        (out / name).write_bytes(content)
        (finding,) = verify(out)
        assert name in finding
        assert "sha256" in finding
        (out / name).unlink()
        (finding,) = verify(out)
        assert f"{name} does not exist" in finding
        content[len(content) // 2] ^= 1
        (out / name).write_bytes(content)
    manifest = json.loads((out / "manifest.json").read_text())
    for broken in ("{", "[]", '{"schema": 1}', json.dumps(manifest | {"schema": 0})):
        (out / "manifest.json").write_text(broken)
        (finding,) = verify(out)
        assert "manifest.json" in finding


def test_reuse_prepares_once_and_again_when_the_files_are_broken(tmp_path: Path) -> None:
    source, out = write_lines(tmp_path / "sums.jsonl", sums(30)), tmp_path / "out"

    def prepared() -> bool:
        before = (out / "train.parquet").stat().st_ino if out.exists() else None
        manifest = prepare(str(source), out, size=9, seed=0, val_size=3, reuse=True)
        assert manifest == Manifest.load(out)
        assert verify(out) == []
        return (out / "train.parquet").stat().st_ino != before

    assert prepared()
    assert not prepared()
    os.link(out / "train.parquet", tmp_path / "keeper")  # holds the old inode, so that it is not given out again
    (out / "val.parquet").write_bytes((out / "val.parquet").read_bytes()[:-1])
    assert prepared()
    assert not prepared()


def test_reuse_never_replaces_what_was_made_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = write_lines(tmp_path / "sums.jsonl", sums(30)), tmp_path / "out"
    arguments: dict[str, Any] = {"size": 9, "seed": 0, "val_size": 3}
    first = prepare(str(source), out, **arguments, reuse=True)
    written = (out / "train.parquet").read_bytes()
    for change in ({"size": 8}, {"seed": 1}, {"val_size": 2}, {"gold_parses": None}):
        with pytest.raises(DatasetError, match=r"made otherwise \(.*now"):
            prepare(str(source), out, **arguments | change, reuse=True)
    with monkeypatch.context() as other_prompts:
        other_prompts.setattr("guidelines_core.prompts.VERSION", "other")
        with pytest.raises(DatasetError, match=r"prompts_version .*, now other"):
            prepare(str(source), out, **arguments, reuse=True)
    source.write_bytes(source.read_bytes().replace(b"2 plus", b"3 plus"))
    with pytest.raises(DatasetError, match=f"source_sha256 {first.source_sha256}, now "):
        prepare(str(source), out, **arguments, reuse=True)
    assert (out / "train.parquet").read_bytes() == written


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "guidelines_core.data.prepare", *arguments]
    pipe = subprocess.PIPE
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def test_processes_that_prepare_at_once_wait_for_one_another(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (tmp_path / ".out.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        processes = [
            start("--source", "word-problems", "--out", str(out), "--size", "3000", "--seed", str(seed))
            for seed in range(2)
        ]
        for process in processes:
            assert process.stderr is not None
            assert "waiting for another process" in process.stderr.readline()
        assert not out.exists()
    for process in processes:
        stdout, stderr = process.communicate(timeout=60)
        assert (process.returncode, stderr) == (0, "")
        assert "3,000 of 3,000 training rows" in stdout
    assert verify(out) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock", "out"]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    for name in (".out.new", ".out.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.parquet").write_text("half")
    prepare("word-problems", tmp_path / "out", size=9, seed=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock", "out"]


def test_interrupted_command_leaves_nothing(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "sums.jsonl", sums(9))
    with (tmp_path / ".out.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # else a nohup's is inherited
        try:
            process = start("--source", str(source), "--out", str(tmp_path / "out"))
        finally:
            signal.signal(signal.SIGINT, previous)
        assert process.stderr is not None
        assert "waiting" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr.startswith("interrupted")
    assert not (tmp_path / "out").exists()


def test_hub_that_cannot_be_reached_is_refused_in_one_sentence(tmp_path: Path) -> None:
    process = start("--source", "no-such-owner/no-such-set", "--out", str(tmp_path / "out"))
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (2, "")
    assert "cannot be read from the hub" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr


def test_command_says_what_it_kept_and_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_lines(tmp_path / "sums.jsonl", [*sums(10), {"problem": "Which?", "answer": "B"}])
    arguments = ["--source", str(source), "--out", str(tmp_path / "out"), "--size", "20", "--seed", "1"]
    assert main(arguments) == 0
    stdout = capsys.readouterr().out
    assert "8 of 20 training rows asked for, 2 of 500 validation rows" in stdout
    assert "dropped as multiple_choice: 1" in stdout


def test_command_refuses_and_fails_with_different_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--source", "nowhere", "--out", str(tmp_path / "out")]) == 2
    assert "refused: source 'nowhere' is unknown; expected 'word-problems'" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["--source", "word-problems", "--out", str(tmp_path / "file" / "out")]) == 1
    assert "failed: " in capsys.readouterr().err
    assert main(["--source", "word-problems", "--out", str(tmp_path / "file")]) == 2


def test_another_tokenizer_counts_anew_and_leaves_the_rows(tmp_path: Path) -> None:
    source = str(write_lines(tmp_path / "rows.jsonl", sums(9)))
    model = ROOT / "models" / "tiny-random"
    ensure_model(model)
    first = prepare(source, tmp_path / "out", size=9, seed=0, reuse=True)
    written = (tmp_path / "out" / "train.parquet").stat().st_mtime_ns
    tokens = prepare(source, tmp_path / "out", size=9, seed=0, tokenizer=str(model), reuse=True)
    assert first.prompt_lengths != tokens.prompt_lengths
    assert Manifest.load(tmp_path / "out") == tokens
    assert (tmp_path / "out" / "train.parquet").stat().st_mtime_ns == written
    assert verify(tmp_path / "out") == []
    longer = prepare(
        source, tmp_path / "out", size=9, seed=0, tokenizer=str(model), template={"enable_thinking": False}, reuse=True
    )
    assert longer.length_unit == f"{model} with {{'enable_thinking': False}}"


def test_lengths_are_those_that_verl_filters_by(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    model = ROOT / "models" / "tiny-random"
    ensure_model(model)
    manifest = prepare("word-problems", tmp_path / "out", size=20, seed=0, val_size=5, tokenizer=str(model))
    tokenizer = AutoTokenizer.from_pretrained(model)
    for split in ("train", "val"):
        chats = [row["prompt"] for row in rows_of(tmp_path / "out", split)]
        counted = Counter(
            len(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True)["input_ids"])
            for chat in chats
        )
        assert manifest.prompt_lengths[split] == {str(length): counted[length] for length in sorted(counted)}


def test_import_brings_no_heavy_package() -> None:
    heavy = {"torch", "datasets", "rich", "sympy", "math_verify"}
    code = f"import sys, guidelines_core.data.prepare; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


LONG = "A train leaves the town at nine and travels at sixty miles an hour for {} hours. How far does it go?"


def test_benchmarks_problems_are_left_out(tmp_path: Path) -> None:
    """The same words in another dress, and a short problem that is the whole of a row, but no shared phrase."""
    benchmark = [
        {"question": LONG.format(3), "answer": "180"},
        {"problem": "What is 2 plus 4?", "answer": "6"},
        {"problem": "Find x. [asy] draw((0,0)--(1,1)--(1,0)--(0,0)--(2,2)--(3,3)); [/asy]", "answer": "6"},
    ]
    rows = [
        *sums(20),
        {"problem": LONG.format("$3$").upper().replace("TOWN", "*town*"), "answer": "180", "source": "copy"},
        {"problem": "At nine a train leaves the town for 3 hours.", "answer": "1"},
        {"problem": "Area? [asy] draw((0,0)--(1,1)--(1,0)--(0,0)--(2,2)--(3,3)); [/asy]", "answer": "7"},
    ]
    source = write_lines(tmp_path / "rows.jsonl", rows)
    exclude = [write_lines(tmp_path / "benchmark.jsonl", benchmark)]
    manifest = prepare(str(source), tmp_path / "out", size=50, seed=0, exclude=exclude)
    assert manifest.dropped == {"in_benchmark": 2}
    assert manifest.dropped_by_source == {"copy": {"in_benchmark": 1}, "rows": {"in_benchmark": 1}}
    assert set(manifest.excluded) == {"benchmark.jsonl"}
    assert "What is 2 plus 4?" not in golds_of(tmp_path / "out")
    assert any(question.startswith("At nine") for question in golds_of(tmp_path / "out"))


def test_benchmark_that_is_none_is_one_clear_error(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "rows.jsonl", sums(9))
    empty = write_lines(tmp_path / "empty.jsonl", [{"text": "no problem"}])
    with pytest.raises(DatasetError, match=r"empty.jsonl holds no row with 'problem'"):
        prepare(str(source), tmp_path / "out", size=9, seed=0, exclude=[empty])
    with pytest.raises(DatasetError, match=r"exclude .*none.jsonl is not a file"):
        prepare(str(source), tmp_path / "out", size=9, seed=0, exclude=[tmp_path / "none.jsonl"])


def test_golds_are_checked_until_there_are_rows_enough(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "sums.jsonl", sums(200))
    checked: list[str] = []

    def parses(gold: str) -> bool:
        checked.append(gold)
        return int(gold) % 4 != 0

    manifest = prepare(str(source), tmp_path / "out", size=20, seed=0, val_size=5, gold_parses=parses)
    assert (manifest.train_rows, manifest.val_rows) == (20, 5)
    assert len(checked) == 25 + manifest.dropped["gold_unparseable"] < 100
    assert manifest.not_selected == 200 - len(checked)
    assert all(int(gold) % 4 for gold in golds_of(tmp_path / "out").values())


def test_prompt_lengths_are_counted_in_pieces_or_tokens(tmp_path: Path) -> None:
    rows = [*sums(9), {"problem": "Count: " + "one " * 100, "answer": "100"}]
    source = str(write_lines(tmp_path / "rows.jsonl", rows))
    pieces = prepare(source, tmp_path / "out", size=9, seed=0)
    assert pieces.length_unit == "pieces"
    assert histogram(pieces.prompt_lengths["train"]) == {"64": 7, "256": 1}
    assert pieces.longer_than("train", 64) == 1
    assert pieces.longer_than("val", 64) == 0
    model = ROOT / "models" / "tiny-random"
    ensure_model(model)
    tokens = prepare(source, tmp_path / "out", size=9, seed=0, tokenizer=str(model))
    assert tokens.length_unit == str(model)
    assert histogram(tokens.prompt_lengths["train"]) == {"256": 7, "1024": 1}  # bytes, nearly
    assert (tokens.train_rows, tokens.sha256) == (pieces.train_rows, pieces.sha256)
    with pytest.raises(DatasetError, match=r"tokenizer .*none cannot be loaded"):
        prepare(source, tmp_path / "out", size=9, seed=0, tokenizer=str(tmp_path / "none"))
