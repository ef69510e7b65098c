"""Solutions that no model should write, and a grading of many of them that notices every verdict lost or swapped."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from hypothesis import strategies as st

from guidelines_core.grading.pool import GradingPool
from tests.support.corpus import corpus
from tests.support.hostile import HOSTILE

LATEX = (  # noqa: SIM905
    r"\frac \sqrt \boxed{ \fbox{ { } ( ) [ ] \{ \} ^ _ & \\ | ! ' $ \$ % \% , ; : = < > + - * / . ... \ldots \cdot "
    r"\times \pm \infty \emptyset \pi \theta \gamma \sin \log_ \ln \sum_{k=1}^n \int_0^1 \lim \binom \cup \cap \in \le "
    r"\ge \neq \approx \text{ \text{cm} \mathrm{km} \text{or} \begin{pmatrix} \end{pmatrix} \begin{cases} \end{cases} "
    r"^\circ \left( \right) \overline{ \mathbb{R} \gcd \lfloor \rfloor x y n i e R 0 1 2 3 7 10 0.5 1,000 999999 1e9 "
    r"9^{9 (A) (B) B. or and answer is: #### The"
).split()
TOKENS = [
    *LATEX,
    " ",
    "\n",
    "\x00",
    "\x07",
    "\u202e",
    "\ud800",
    "\uffff",
    "\u00b2",
    "\u221a",
    "\u221e",
    "\u20ac",
    "\u4e94",
]
GOLDS = (
    *("4", "x+1", r"\frac{1}{2}", "(1,2)", "[0,1)", r"\{1,2\}", "B", r"\text{Monday}", "y=2x", r"3\text{ cm}", "1,2"),
    "",
)

solutions = st.one_of(
    st.text(max_size=60),
    st.text(max_size=40).map(lambda text: rf"\boxed{{{text}}}"),
    st.lists(st.sampled_from(TOKENS), max_size=25).map(lambda tokens: " ".join(tokens)),
    st.lists(st.sampled_from(TOKENS), max_size=15).map(lambda tokens: rf"\boxed{{{''.join(tokens)}}}"),
    st.floats().map(lambda value: rf"\boxed{{{value}}}"),
    st.fractions().map(lambda value: rf"\boxed{{\frac{{{value.numerator}}}{{{value.denominator}}}}}"),
)


def mutations(seed: int) -> Iterator[tuple[str, str]]:
    """Yield (gold, solution) pairs forever: the corpus's with pieces dropped, doubled, moved or put in."""
    draw = random.Random(seed)
    cases = corpus()
    while True:
        case = draw.choice(cases)
        gold, text = case.gold, case.solution
        for _ in range(draw.randint(1, 4)):
            start, end = sorted(draw.choices(range(len(text) + 1), k=2))
            kind = draw.randrange(5)
            if kind == 0:
                text = text[:start] + text[end:]
            elif kind == 1:
                text = text[:end] + text[start:end] * draw.choice((1, 2, 50)) + text[end:]
            elif kind == 2:
                text = text[:start] + draw.choice(TOKENS) + text[start:]
            elif kind == 3:
                text = text[end:] + text[start:end] + text[:start]
            else:
                text = text[:start] + draw.choice(cases).solution + text[start:]
        yield (gold if draw.random() < 0.9 else draw.choice(GOLDS)), text


def grade_all(pool: GradingPool, pairs: Iterable[tuple[str, str]], deadline: float) -> Counter[str]:
    """Grade the pairs, 64 at a time, with a pair of known verdict after every fourth; return the reasons' counts.

    Raises:
        AssertionError: a verdict is lost, swapped or late, or a process ended by itself.
    """
    reasons: Counter[str] = Counter()
    stream = iter(pairs)
    while batch := list(islice(stream, 64)):
        futures, known = [], []
        for number, (gold, solution) in enumerate(batch):
            began = time.monotonic()
            futures.append(pool.submit(gold, solution))
            assert time.monotonic() - began < 5, f"the caller stood still for {gold!r}, {solution[:200]!r}"
            if number % 4 == 0:
                offset = reasons.total() + number
                known.append(
                    (offset % 3 == 0, pool.submit(f"x+{offset}", rf"\boxed{{{offset + min(offset % 3, 1)}+x}}"))
                )
        for (gold, solution), future in zip(batch, futures, strict=True):
            verdicts = future.result(60 + deadline * len(batch))
            assert list(verdicts) == ["math_verify", "exact_match"]
            reason = verdicts["math_verify"].reason
            assert reason != "grader_error", f"a process ended: {gold!r}, {solution[:400]!r}"
            assert verdicts["exact_match"].reason not in ("timeout", "grader_error")
            reasons[reason] += 1
        for equal, future in known:
            verdict = future.result(60 + deadline * len(batch))["math_verify"]
            assert verdict.reason == ("correct" if equal else "wrong"), "a verdict was swapped"
    return reasons


def hostile_pairs() -> Iterator[tuple[str, str]]:
    """Yield every hostile solution against every gold."""
    for gold in GOLDS:
        for solution in HOSTILE.values():
            yield gold, solution
