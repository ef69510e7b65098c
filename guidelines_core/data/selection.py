"""Chooses the rows of a data set among a source's problems, and measures their prompts' lengths."""

from __future__ import annotations

import functools
import itertools
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from guidelines_core import prompts
from guidelines_core.data.decontamination import Benchmarks
from guidelines_core.data.problems import DatasetError, Drop, Problem, parse_row, source_of

T = TypeVar("T")
PlannerMessages = Callable[[str], list[prompts.Message]]


def usable(
    rows: Iterable[object], default_source: str, benchmarks: Benchmarks
) -> tuple[list[Problem], dict[str, Counter[str]], int]:
    """Return the distinct problems, the dropped rows by source and reason, and the rows read.

    Of equal problems the smallest is kept, or none if their golds differ, so the order of the rows does not matter.
    """
    by_id: dict[str, Problem | None] = {}
    dropped: dict[str, Counter[str]] = defaultdict(Counter)
    rows_read = 0

    def drop(source: str, reason: Drop) -> None:
        dropped[source][reason.value] += 1

    for row in rows:
        rows_read += 1
        problem = row if isinstance(row, Drop) else parse_row(row, default_source)
        if not isinstance(problem, Drop) and benchmarks.overlap(problem.question):
            problem = Drop.IN_BENCHMARK
        if isinstance(problem, Drop):
            drop(source_of(row, default_source), problem)
            continue
        problem_id = problem.problem_id
        if problem_id not in by_id:
            by_id[problem_id] = problem
            continue
        known = by_id[problem_id]
        if known is not None and known.gold == problem.gold:
            by_id[problem_id] = min(known, problem)
            drop(max(known, problem).source, Drop.DUPLICATE)
        else:
            by_id[problem_id] = None
            for conflicting in (known, problem):
                if conflicting is not None:
                    drop(conflicting.source, Drop.CONFLICTING_GOLDS)
    return [problem for problem in by_id.values() if problem is not None], dropped, rows_read


def with_parsed_golds(
    problems: Sequence[Problem],
    count: int,
    gold_parses: Callable[[str], bool] | None,
    dropped: dict[str, Counter[str]],
) -> list[Problem]:
    """Return the first `count` problems whose golds parse; the others before them are counted as dropped.

    Parsing takes milliseconds, so not all golds of a large source are parsed.
    """
    parses = functools.lru_cache(maxsize=100_000)(gold_parses) if gold_parses else lambda gold: True
    found: list[Problem] = []
    for problem in with_progress(problems, "golds checked"):
        if len(found) == count:
            break
        if parses(problem.gold):
            found.append(problem)
        else:
            dropped[problem.source][Drop.GOLD_UNPARSEABLE.value] += 1
    return found


def within(problems: Sequence[Problem], pass_rate: Sequence[float], dropped: dict[str, Counter[str]]) -> list[Problem]:
    """Return the problems with a pass rate between the two bounds; the others are counted as dropped."""
    low, high = pass_rate
    found = []
    for problem in problems:
        if low <= problem.pass_rate <= high:
            found.append(problem)
        else:
            dropped[problem.source][Drop.OUTSIDE_PASS_RATE.value] += 1
    return found


_PIECE = re.compile(r"\w+|[^\w\s]")


def prompt_lengths(
    chats: Iterable[Sequence[Mapping[str, str]]], tokenizer: str | None, template: Mapping[str, Any]
) -> Iterator[int]:
    """Yield the length of each prompt, in tokens as verl counts them (`utils/dataset/rl_dataset.py`), or pieces.

    Args:
        chats: the prompts.
        tokenizer: the model whose tokens are counted; None counts pieces.
        template: further arguments of the chat template, `data.apply_chat_template_kwargs`.
    """
    if tokenizer is None:
        yield from (sum(len(_PIECE.findall(turn["content"])) for turn in chat) for chat in chats)
        return
    try:
        from transformers import AutoTokenizer

        loaded = AutoTokenizer.from_pretrained(tokenizer)
    except Exception as error:  # the hub's client raises many types of errors
        raise DatasetError(
            f"tokenizer {tokenizer} cannot be loaded ({type(error).__name__}): name a model's folder or hub id"
        ) from error
    texts = (loaded.apply_chat_template(chat, add_generation_prompt=True, tokenize=False, **template) for chat in chats)
    while batch := list(itertools.islice(texts, 1000)):
        yield from map(len, loaded(batch, add_special_tokens=False)["input_ids"])


def length_unit(tokenizer: str | None, template: Mapping[str, Any]) -> str:
    """Return the unit of `prompt_lengths`, in words."""
    return (tokenizer or "pieces") + (f" with {dict(template)}" if template else "")


def with_progress(rows: Iterable[T], what: str) -> Iterator[T]:
    """Yield `rows`, counted by a live line where stderr is a terminal."""
    if not sys.stderr.isatty():
        yield from rows
        return
    from rich.progress import Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from guidelines_core.terminal import plain_console

    columns = (
        SpinnerColumn(),
        TextColumn("{task.completed:,.0f} " + what),
        TaskProgressColumn(show_speed=True),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=plain_console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        for number, row in enumerate(rows, start=1):
            if number % 256 == 0:
                progress.update(task, completed=number)
            yield row
