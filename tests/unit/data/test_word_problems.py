"""The generator's golds, computed again from the numbers that stand in the question, and its English."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction as F

import pytest

from guidelines_core.data.problems import DatasetError
from guidelines_core.data.word_problems import NAMES, SOURCE, TEMPLATES, THINGS, Template, fill, generate
from guidelines_core.paths import ROOT

# What each template's question asks, from its numbers in the order in which a reader meets them
FORMULAS: dict[str, Callable[..., F]] = {
    "more": lambda had, given: had + given,
    "together": lambda first, second: first + second,
    "age_later": lambda age, years: age + years,
    "both_days": lambda monday, tuesday: monday + tuesday,
    "two_prices": lambda price, other_price: price + other_price,
    "fewer": lambda there, taken: there - taken,
    "gift": lambda had, given: had - given,
    "compare": lambda first, second: first - second,
    "age_difference": lambda older, younger: older - younger,
    "still_needed": lambda needed, there: needed - there,
    "change": lambda price, note: note - price,
    "temperature": lambda noon, fall: noon - fall,
    "packs": lambda packs, in_pack: in_pack * packs,
    "cost": lambda price, things: price * things,
    "times_as_many": lambda things, times: things * times,
    "distance": lambda speed, hours: speed * hours,
    "rectangle_area": lambda length, width: length * width,
    "each_day": lambda a_day, days: a_day * days,
    "rows": lambda rows, in_row: rows * in_row,
    "share": lambda things, friends: things / friends,
    "filling_time": lambda a_minute, things: things / a_minute,
    "slices": lambda slices, eaten: eaten / slices,
    "cut": lambda metres, pieces: metres / pieces,
    "buy_and_change": lambda things, price, note: note - things * price,
    "two_kinds": lambda n, price, m, other_price: n * price + m * other_price,
    "price_with_cents": lambda price, things, note: note - things * price,
    "fence": lambda length, width: length + width + length + width,
    "average": lambda a, b, c: (a + b + c) / 3,
    "percent_left": lambda things, percent: things * (100 - percent) / 100,
    "discount": lambda price, percent: price * (100 - percent) / 100,
    "what_percent": lambda things, given: given / things * 100,
    "there_and_back": lambda distance, days: (distance + distance) * days,
    "same_speed": lambda distance, hours, more_hours: distance / hours * more_hours,
    "share_the_rest": lambda things, kept, friends: (things - kept) / friends,
    "ages_together": lambda age, years: age + (age + years),
    "pages_left": lambda pages, a_day, days: pages - a_day * days,
    "recipe": lambda people, grams, more_people: grams / people * more_people,
    "juice": lambda morning, evening: morning + evening,
    "wage": lambda an_hour, hours, bonus: an_hour * hours + bonus,
}


def numbers_in(question: str) -> list[F]:
    return [F(number) for number in re.findall(r"\d+(?:\.\d+|/\d+)?", question)]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
def test_gold_is_what_the_question_asks_for(template: Template) -> None:
    rng = random.Random(template.name)
    for _ in range(200):
        problem = fill(template, rng)
        expected = FORMULAS[template.name](*numbers_in(problem.question))
        assert F(problem.gold) == expected, problem
        assert expected > 0, problem


def test_golds_of_things_that_come_whole_are_whole() -> None:
    for problem in generate(1000, 3):
        if problem.question.split(". ")[-1].startswith(("How many", "By how many")) and not re.search(
            r"metres long is|dollars", problem.question
        ):
            assert re.fullmatch(r"-?\d+", problem.gold), problem


def test_gold_is_written_as_a_person_writes_it() -> None:
    golds = [problem.gold for problem in generate(3000, 0)]
    assert all(re.fullmatch(r"-?\d+|\d+\.\d{1,2}|\d+/\d+", gold) for gold in golds)
    reduced = [gold for gold in golds if "/" in gold]
    assert reduced
    assert all(str(F(gold)) == gold for gold in reduced)
    cents = [p.gold for p in generate(3000, 0) if p.question.startswith("Each") and "." in p.gold]
    assert cents
    assert all(re.fullmatch(r"\d+\.\d\d", gold) for gold in cents)


def test_questions_are_short_correct_english() -> None:
    for problem in generate(2000, 1):
        question = problem.question
        assert 10 <= len(question.split()) <= 45, question
        assert question[0].isupper(), question
        assert re.search(r"[?.]$", question), question
        assert not re.search(r"[{}]|  | [,.?]", question), question
        assert not re.search(r"(?<![\d./])[01](?![\d./])", question), f"wants a singular: {question}"
        singular = "|".join(rf"\d {thing}" for thing, _ in THINGS)
        assert not re.search(rf"\b(?:{singular})\b", question), question


def test_two_people_in_a_problem_have_different_names() -> None:
    for template in (t for t in TEMPLATES if "{A}" in t.text and "{B}" in t.text):
        rng = random.Random(template.name)
        for _ in range(200):
            problem = fill(template, rng)
            assert len(set(re.findall(r"\w+", problem.question)) & set(NAMES)) == 2, problem


def test_same_seed_same_problems_and_the_smaller_set_is_the_beginning_of_the_larger() -> None:
    assert list(generate(300, 5)) == list(generate(600, 5))[:300]
    assert list(generate(300, 5)) != list(generate(300, 6))


def test_problems_do_not_depend_on_hash_randomisation() -> None:
    code = "from guidelines_core.data.word_problems import generate; print([*generate(50, 7)])"
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == repr([*generate(50, 7)])


def test_first_problem_of_seed_0_stays_the_same_on_every_python() -> None:
    problem = next(generate(1, 0))
    assert problem.question == "Every brush costs 2 dollars. How many dollars does Kira pay for 6 brushes?"
    assert problem.gold == "12"


def test_no_duplicates() -> None:
    problems = list(generate(5000, 0))
    assert len({problem.problem_id for problem in problems}) == 5000


def test_nine_in_ten_are_one_sum_or_product_of_two_numbers_below_10() -> None:
    easy = [template for template in TEMPLATES if template.easy]
    assert len(easy) >= 10
    for template in easy:
        rng = random.Random(0)
        for problem in (fill(template, rng) for _ in range(100)):
            x, y = numbers_in(problem.question)
            assert max(x, y) < 10, problem
            assert F(problem.gold) in (x + y, x * y), problem
    texts = [re.sub(r"\\\{\w+\\\}", ".+", re.escape(template.text)) for template in easy]
    problems = list(generate(1000, 0))
    found = sum(any(re.fullmatch(text, problem.question) for text in texts) for problem in problems)
    assert 870 <= found <= 930
    assert {problem.source for problem in problems} == {SOURCE}


def test_more_problems_than_the_templates_can_well_make_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"size plus val_size is 1000001 .* ask for fewer"):
        next(generate(1_000_001, 0))
