"""20,000 solutions that nobody meant to be graded: no hang, no crash, no verdict lost or swapped.

    pytest tests/slow -m slow -s      # prints the counts

The deadline is short, so that what would hang costs little.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guidelines_core.grading.pool import GradingPool
from tests.support.fuzzing import GOLDS, grade_all, hostile_pairs, mutations, solutions

pytestmark = pytest.mark.slow

DEADLINE = 1.0
MUTATED, EXAMPLES, PER_EXAMPLE = 12_000, 500, 20


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=2, deadline=DEADLINE) as started:
        yield started


def report(name: str, reasons: Counter[str], began: float) -> None:
    counts = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    print(f"\n{name}: {reasons.total()} solutions in {time.monotonic() - began:.0f} s: {counts}")


def test_hostile_solutions_against_every_gold(pool: GradingPool) -> None:
    began = time.monotonic()
    report("hostile", grade_all(pool, hostile_pairs(), DEADLINE), began)


def test_mutated_corpus(pool: GradingPool) -> None:
    began = time.monotonic()
    reasons = grade_all(pool, islice(mutations(seed=0), MUTATED), DEADLINE)
    assert reasons.total() == MUTATED
    report("mutated corpus", reasons, began)


def test_generated_solutions(pool: GradingPool) -> None:
    began, reasons = time.monotonic(), Counter[str]()

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.sampled_from(GOLDS), solutions), min_size=PER_EXAMPLE, max_size=PER_EXAMPLE))
    def grade(pairs: list[tuple[str, str]]) -> None:
        reasons.update(grade_all(pool, pairs, DEADLINE))

    grade()
    assert reasons.total() >= EXAMPLES * PER_EXAMPLE
    report("generated", reasons, began)
