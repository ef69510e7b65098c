"""Which guidelines give the gold answer away."""

from __future__ import annotations

import time

import pytest

from guidelines_core.reward.leak import leaks

APPLES = "Ann has 12 apples and gives 5 to each of 2 friends. How many are left?"
TRAIN = "A train goes 120 km in 1.5 hours. How fast is it?"


@pytest.mark.parametrize(
    ("question", "guideline", "gold"),
    [
        (TRAIN, "Divide the distance by the time: 120 / 1.5 = 80.", "80"),
        (TRAIN, "The answer is 80.", "80"),
        (TRAIN, "1. Divide.\n2. You should get 80 km/h.", "80"),
        (TRAIN, r"Check that you end with \boxed{80}.", "80"),
        (TRAIN, r"Then $v = 80$.", "80"),
        (TRAIN, "80 is the final answer you need.", "80"),
        (TRAIN, "The result must be $80.00$", "80"),
        (TRAIN, "Remember 347 when you add.", "347"),
        (TRAIN, "Remember 1,347 when you add.", "1347"),
        (TRAIN, "So it comes to 3/4 in the end, i.e. = 3/4.", r"\frac{3}{4}"),
        (TRAIN, "Think of 0.375 of the way.", "0.375"),
        (TRAIN, "Think of 3/8 of the way; it is 3/8", "0.375"),
        (APPLES, "The answer is 5.", "5"),
        (APPLES, r"Write \boxed{2}.", "2"),
        (APPLES, r"Use that $\sqrt{2}+1$ solves it.", r"\sqrt{2} + 1"),
        ("Which day is it?", "Count the days; Monday comes out.", r"\text{Monday}"),
        ("Is it A or B?", "The answer is (B).", "(B)"),
        (TRAIN, "Answer: x = -7", "x=-7"),
        (TRAIN, "The value is -7.", "-7"),
    ],
)
def test_leak(question: str, guideline: str, gold: str) -> None:
    assert leaks(question, guideline, gold)


@pytest.mark.parametrize(
    ("question", "guideline", "gold"),
    [
        (APPLES, "She gives away 5 each time: find 2 * 5 first, so 12 - 10 is left.", "5"),
        (APPLES, "Multiply 5 by 2.", "2"),
        (TRAIN, "Write down what is given: distance = 120, time = 1.5.", "120"),
        (TRAIN, "Divide the distance by 2.", "2"),
        (TRAIN, "1. Read.\n2. Divide.\n3. Check.\n4) Write it down.", "3"),
        (TRAIN, "Step 3: divide. In case 4, stop.", "4"),
        (TRAIN, "An hour has 60 minutes, so multiply by 60.", "60"),
        (TRAIN, "A percentage is a part of 100; multiply by 100.", "100"),
        (TRAIN, "The area is 1/2 * base * height.", r"\frac{1}{2}"),
        (TRAIN, "Divide the distance by the time. Put your answer in \\boxed{}.", "80"),
        (TRAIN, "Halve it, that is, divide by 2. Put the answer in \\boxed{}.", "2"),
        (TRAIN, "Think of 1800 and 80.5 and 0.80 and x80.", "80"),
        (TRAIN, "Use x^2 + 2x and \\frac{x}{2}.", "2"),
        (TRAIN, "Subtract: v = 90 - 7", "-7"),
        ("Is it even or odd?", "Decide if it is even or odd.", r"\text{even}"),
        ("Solve (x+1)^2 = 4.", "Expand (x+1)^2.", "x+1"),
        ("Which day is it?", "Count modulo 7.", r"\text{Monday}"),
        (TRAIN, "", "80"),
        (TRAIN, "The answer is 80.", ""),
    ],
)
def test_no_leak(question: str, guideline: str, gold: str) -> None:
    assert not leaks(question, guideline, gold)


@pytest.mark.parametrize(
    "part", ["8", "80 ", "= ", "\\boxed{", "answer is ", "$", "1.", "step 1 ", "- ", "1,000", "\\frac{1}{"]
)
def test_search_takes_linear_time(part: str) -> None:
    start = time.process_time()
    for gold in ("80", "\\sqrt{2}", "0.5"):
        leaks(part * 20_000, part * 20_000, gold)
    assert time.process_time() - start < 3
