"""A seeded generator of short maths word problems with exact golds, written for this project.

Nine problems in ten are easy: one sum or product of two numbers below 10, so that a model of 135M parameters
solves some of them. The others subtract, divide or need two steps. Left out on purpose: division with a
remainder, one single thing (so that every noun stays plural), and anything whose gold is not one number.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal, TypeVar

from guidelines_core.data.problems import DatasetError, Problem

_T = TypeVar("_T")

SOURCE = "word-problems"
"""The `source` of every generated problem, and the name under which `dataset` knows this generator."""

MAX_COUNT = 1_000_000
"""More problems than this would mostly be old ones with other names; the templates can make some millions."""

NAMES = (
    "Mia", "Ben", "Lena", "Omar", "Priya", "Tom", "Zoe", "Ivan", "Nora", "Leo", "Aisha", "Felix",
    "Grace", "Hugo", "Ines", "Jamal", "Kira", "Liam", "Maya", "Noah", "Olga", "Pablo", "Rosa", "Sam",
)  # fmt: skip

THINGS = (
    ("marble", "marbles"), ("sticker", "stickers"), ("pencil", "pencils"), ("badge", "badges"),
    ("postcard", "postcards"), ("balloon", "balloons"), ("toy car", "toy cars"), ("ribbon", "ribbons"),
    ("candle", "candles"), ("peach", "peaches"), ("lemon", "lemons"), ("comic book", "comic books"),
    ("brush", "brushes"), ("bracelet", "bracelets"), ("cookie", "cookies"), ("key ring", "key rings"),
)  # fmt: skip

PLACES = ("market", "school fair", "corner shop", "museum shop", "village shop", "toy shop")

LITTLE = range(2, 10)
BELOW_20 = range(2, 20)
TENS = range(20, 100, 10)
PERCENTS = (10, 20, 25, 50, 75)
QUARTER_PRICES = tuple(Fraction(quarters, 4) for quarters in range(3, 24))


@dataclass(frozen=True)
class Template:
    """A problem with blanks: `{A}`, `{B}` names, `{thing}`, `{things}` and `{others}` objects, `{place}`.

    An `easy` one asks for the sum or the product of two numbers below 10. The other blanks are drawn from
    `numbers` and handed to `gold` and `holds` by name; a draw for which `holds` is false is drawn again. A gold
    that is not whole is written as `form` says.
    """

    name: str
    easy: bool
    text: str
    numbers: dict[str, Sequence[int | Fraction]]
    gold: Callable[..., Fraction | int]
    holds: Callable[..., bool] = lambda **numbers: True
    form: Literal["decimal", "fraction", "money"] = "decimal"


TEMPLATES = (
    Template("more", True,
        "{A} has {x} {things} and gets {y} more from {B}. How many {things} does {A} have now?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x + y,
    ),
    Template("together", True,
        "{A} has {x} {things} and {B} has {y} {things}. How many {things} do they have together?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x + y,
    ),
    Template("age_later", True,
        "{A} is {x} years old. How old will {A} be in {y} years?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x + y,
    ),
    Template("both_days", True,
        "{A} reads {x} pages on Monday and {y} pages on Tuesday. How many pages does {A} read in total?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x + y,
    ),
    Template("two_prices", True,
        "At the {place}, {A} pays {x} dollars for {things} and {y} dollars for {others}. "
        "How many dollars does {A} spend?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x + y,
    ),
    Template("fewer", False,
        "There are {x} {things} on a table. {A} takes {y} of them. How many {things} are left?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x - y, lambda x, y: x > y + 1,
    ),
    Template("gift", False,
        "{A} has {x} {things} and gives {y} of them to {B}. How many {things} does {A} have left?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x - y, lambda x, y: x > y + 1,
    ),
    Template("compare", False,
        "{A} has {x} {things} and {B} has {y}. How many more {things} does {A} have than {B}?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x - y, lambda x, y: x > y,
    ),
    Template("age_difference", False,
        "{A} is {x} years old and {B} is {y}. How many years older is {A} than {B}?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x - y, lambda x, y: x > y,
    ),
    Template("still_needed", False,
        "{A} needs {x} {things} and has {y} of them. How many more {things} does {A} need?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x - y, lambda x, y: x > y,
    ),
    Template("change", False,
        "{A} pays for {things} that cost {x} dollars with a {note}-dollar note. How many dollars does {A} get back?",
        {"x": LITTLE, "note": (10,)}, lambda x, note: note - x,
    ),
    Template("temperature", False,
        "At noon it is {x} degrees. By night it is {y} degrees colder. How many degrees is it at night?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x - y, lambda x, y: x > y,
    ),
    Template("packs", True,
        "{A} buys {y} packs of {x} {things} at the {place}. How many {things} does {A} buy?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x * y,
    ),
    Template("cost", True,
        "Every {thing} costs {x} dollars. How many dollars does {A} pay for {y} {things}?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x * y,
    ),
    Template("times_as_many", True,
        "{B} has {x} {things} and {A} has {y} times as many. How many {things} does {A} have?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x * y,
    ),
    Template("distance", True,
        "{A} walks {x} kilometres an hour. How many kilometres does {A} walk in {y} hours?",
        {"x": range(3, 7), "y": LITTLE}, lambda x, y: x * y,
    ),
    Template("rectangle_area", False,
        "A garden is {x} metres long and {y} metres wide. What is its area in square metres?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x * y, lambda x, y: x > y,
    ),
    Template("each_day", True,
        "{A} buys {x} {things} every day. How many {things} does {A} buy in {y} days?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x * y,
    ),
    Template("rows", True,
        "{A} lays out {x} rows of {y} {things}. How many {things} are there?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x * y,
    ),
    Template("share", False,
        "{A} shares {x} {things} equally among {y} friends. How many {things} does each friend get?",
        {"x": (4, 6, 8, 9, 10, 12), "y": LITTLE}, lambda x, y: Fraction(x, y), lambda x, y: x % y == 0 and x > y,
    ),
    Template("filling_time", False,
        "A machine packs {y} {things} a minute. How many minutes does it need for {x} {things}?",
        {"x": (4, 6, 8, 9, 10, 12), "y": LITTLE}, lambda x, y: Fraction(x, y), lambda x, y: x % y == 0 and x > y,
    ),
    Template("slices", False,
        "A cake is cut into {x} equal slices, and {A} eats {y} of them. What fraction of the cake does {A} eat?",
        {"x": (4, 6, 8, 9), "y": LITTLE}, lambda x, y: Fraction(y, x), lambda x, y: y < x,
        form="fraction",
    ),
    Template("cut", False,
        "{A} cuts a rope of {x} metres into {y} equal pieces. How many metres long is each piece?",
        {"x": LITTLE, "y": (2, 4, 5)}, lambda x, y: Fraction(x, y), lambda x, y: x > y,
    ),
    Template("buy_and_change", False,
        "At the {place}, {A} buys {x} {things} for {y} dollars each and pays with a {note}-dollar note. "
        "How many dollars of change does {A} get?",
        {"x": LITTLE, "y": LITTLE, "note": (20, 50, 100)}, lambda x, y, note: note - x * y,
        lambda x, y, note: note / 3 < x * y < note,
    ),
    Template("two_kinds", False,
        "{A} buys {x} {things} for {y} dollars each and {z} {others} for {w} dollars each. "
        "How many dollars does {A} spend in total?",
        {"x": LITTLE, "y": LITTLE, "z": LITTLE, "w": LITTLE}, lambda x, y, z, w: x * y + z * w,
    ),
    Template("price_with_cents", False,
        "Each {thing} costs {x} dollars. {A} buys {y} of them and pays with a {note}-dollar note. "
        "How many dollars does {A} get back?",
        {"x": QUARTER_PRICES, "y": range(2, 5), "note": (10, 20)}, lambda x, y, note: note - x * y,
        lambda x, y, note: x.denominator > 1 and note / 4 < x * y < note, form="money",
    ),
    Template("fence", False,
        "{A} puts a fence all the way round a rectangular field that is {x} metres long and {y} metres wide. "
        "How many metres of fence does {A} need?",
        {"x": range(5, 60), "y": range(5, 40)}, lambda x, y: 2 * (x + y), lambda x, y: x > y,
    ),
    Template("average", False,
        "In three games, {A} scores {x}, {y} and {z} points. What is the average number of points per game?",
        {"x": BELOW_20, "y": BELOW_20, "z": BELOW_20}, lambda x, y, z: Fraction(x + y + z, 3),
        lambda x, y, z: (x + y + z) % 3 == 0,
    ),
    Template("percent_left", False,
        "{A} brings {x} {things} to the {place} and sells {p}% of them. "
        "How many {things} does {A} still have?",
        {"x": range(20, 121, 20), "p": PERCENTS}, lambda x, p: x - Fraction(x * p, 100),
    ),
    Template("discount", False,
        "A coat at the {place} costs {x} dollars. In the sale {A} pays {p}% less. "
        "How many dollars does {A} pay for the coat?",
        {"x": TENS, "p": PERCENTS}, lambda x, p: x - Fraction(x * p, 100), form="money",
    ),
    Template("what_percent", False,
        "{A} has {x} {things} and gives {y} of them to {B}. "
        "What percentage of the {things} does {A} give away? Answer with the number only.",
        {"x": (10, 20, 25, 40, 50), "y": BELOW_20}, lambda x, y: Fraction(100 * y, x),
        lambda x, y: y < x and 100 * y % x == 0,
    ),
    Template("there_and_back", False,
        "The school is {x} kilometres from {A}'s home. {A} cycles there and back on {y} days. "
        "How many kilometres does {A} cycle altogether?",
        {"x": BELOW_20, "y": LITTLE}, lambda x, y: 2 * x * y,
    ),
    Template("same_speed", False,
        "A train that {A} takes travels {x} kilometres in {y} hours. "
        "At the same speed, how many kilometres does it travel in {z} hours?",
        {"x": range(120, 481, 20), "y": LITTLE, "z": LITTLE}, lambda x, y, z: Fraction(x, y) * z,
        lambda x, y, z: x % y == 0 and 40 <= x // y <= 160 and y != z,
    ),
    Template("share_the_rest", False,
        "{A} has {x} {things}, keeps {y} of them and shares the rest equally among {z} friends. "
        "How many {things} does each friend get?",
        {"x": range(10, 60), "y": LITTLE, "z": LITTLE}, lambda x, y, z: Fraction(x - y, z),
        lambda x, y, z: (x - y) % z == 0 and x - y > z,
    ),
    Template("ages_together", False,
        "{B} is {x} years old, and {A} is {y} years older than {B}. How many years old are they together?",
        {"x": range(4, 30), "y": BELOW_20}, lambda x, y: 2 * x + y,
    ),
    Template("pages_left", False,
        "{A} borrows a book that has {x} pages and reads {y} pages a day for {z} days. "
        "How many pages are left to read?",
        {"x": range(60, 200), "y": range(5, 25), "z": LITTLE}, lambda x, y, z: x - y * z,
        lambda x, y, z: x > y * z + 1,
    ),
    Template("recipe", False,
        "A recipe for {x} people needs {y} grams of flour. "
        "How many grams of flour does {A} need to cook the same dish for {z} people?",
        {"x": LITTLE, "y": range(100, 601, 50), "z": range(2, 13)}, lambda x, y, z: Fraction(y, x) * z,
        lambda x, y, z: y % x == 0 and x != z,
    ),
    Template("juice", False,
        "{A} drinks 1/{x} of a litre of juice in the morning and 1/{y} of a litre in the evening. "
        "What fraction of a litre does {A} drink in total?",
        {"x": range(2, 9), "y": range(2, 9)}, lambda x, y: Fraction(1, x) + Fraction(1, y),
        lambda x, y: x != y, form="fraction",
    ),
    Template("wage", False,
        "{A} earns {x} dollars an hour at the {place}, works {y} hours and gets a bonus of {z} dollars. "
        "How many dollars does {A} get altogether?",
        {"x": range(9, 25), "y": LITTLE, "z": range(5, 31, 5)}, lambda x, y, z: x * y + z,
    ),
)  # fmt: skip


def fill(template: Template, rng: random.Random) -> Problem:
    """Return a problem that `template` and the next numbers of `rng` make."""
    while True:
        numbers = {key: rng.choice(values) for key, values in template.numbers.items()}
        if template.holds(**numbers):
            break
    first_name, second_name = _choose_two(NAMES, rng)
    (thing, things), (_, others) = _choose_two(THINGS, rng)
    question = template.text.format(
        A=first_name, B=second_name, thing=thing, things=things, others=others, place=rng.choice(PLACES),
        **{key: _write(value, "money") for key, value in numbers.items()},
    )  # fmt: skip
    return Problem(question, _write(Fraction(template.gold(**numbers)), template.form), SOURCE)


def generate(count: int, seed: int) -> Iterator[Problem]:
    """Yield `count` different problems; a smaller count gives the beginning of the same sequence.

    Only `random.Random` methods whose results are the same on every supported Python are used.

    Raises:
        DatasetError: `count` is above `MAX_COUNT`.
    """
    if count > MAX_COUNT:
        raise DatasetError(
            f"size plus val_size is {count} for the source {SOURCE!r}, expected {MAX_COUNT} at most: "
            "ask for fewer, or take a larger source"
        )
    rng = random.Random(seed)
    easy, hard = ([t for t in TEMPLATES if t.easy is wanted] for wanted in (True, False))
    seen: set[str] = set()
    while len(seen) < count:
        problem = fill(rng.choice(easy if rng.randrange(10) < 9 else hard), rng)
        if problem.question not in seen:
            seen.add(problem.question)
            yield problem


def _choose_two(values: Sequence[_T], rng: random.Random) -> tuple[_T, _T]:
    first = rng.randrange(len(values))
    second = (first + 1 + rng.randrange(len(values) - 1)) % len(values)
    return values[first], values[second]


def _write(number: int | Fraction, form: Literal["decimal", "fraction", "money"]) -> str:
    if number.denominator == 1:
        return str(number.numerator)
    if form == "fraction":
        return f"{number.numerator}/{number.denominator}"
    decimal = Decimal(number.numerator) / Decimal(number.denominator)
    if Fraction(decimal) != number:
        raise ValueError(f"{number} has no exact decimal form; give its template the form 'fraction'")
    return f"{decimal:.2f}" if form == "money" else str(decimal)
