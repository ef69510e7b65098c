"""A seeded generator of short maths word problems with exact golds, written for this project.

Six problems in ten need one step on numbers below 20, so that a model of 135M parameters solves some of them;
the others need two. Left out on purpose: division with a remainder, one single thing (so that every noun
stays plural), and anything whose gold is not one number.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal, TypeVar

from guidelines_core.problems import DatasetError, Problem

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

    The other blanks are drawn from `numbers` and handed to `gold` and `holds` by name; a draw for which
    `holds` is false is drawn again. A gold that is not whole is written as `form` says.
    """

    name: str
    steps: Literal[1, 2]
    text: str
    numbers: dict[str, Sequence[int | Fraction]]
    gold: Callable[..., Fraction | int]
    holds: Callable[..., bool] = lambda **numbers: True
    form: Literal["decimal", "fraction", "money"] = "decimal"


TEMPLATES = (
    Template("more", 1,
        "{A} has {x} {things} in a box. At the {place}, {B} gives {A} {y} more {things}. "
        "How many {things} does {A} have now?",
        {"x": BELOW_20, "y": BELOW_20}, lambda x, y: x + y,
    ),
    Template("fewer", 1,
        "There are {x} {things} on the kitchen table. {A} takes {y} of them to the {place}. "
        "How many {things} are still on the table?",
        {"x": BELOW_20, "y": BELOW_20}, lambda x, y: x - y, lambda x, y: x > y,
    ),
    Template("packs", 1,
        "At the {place}, {things} are sold in packs of {x}. {A} buys {y} packs. "
        "How many {things} does {A} buy altogether?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x * y,
    ),
    Template("share", 1,
        "{A} has {x} {things} and shares all of them equally among {y} friends. "
        "How many {things} does each friend get?",
        {"x": BELOW_20, "y": LITTLE}, lambda x, y: Fraction(x, y), lambda x, y: x % y == 0 and x > y,
    ),
    Template("age_later", 1,
        "{A} is {x} years old and goes to school with {B}. How old will {A} be {y} years from now?",
        {"x": range(6, 19), "y": BELOW_20}, lambda x, y: x + y,
    ),
    Template("age_difference", 1,
        "{A} is {x} years old today, and {B} is {y} years old. By how many years is {A} older than {B}?",
        {"x": BELOW_20, "y": BELOW_20}, lambda x, y: x - y, lambda x, y: x > y,
    ),
    Template("compare", 1,
        "{A} collects {x} {things}, and {B} collects {y} {things}. "
        "How many more {things} does {A} collect than {B}?",
        {"x": BELOW_20, "y": BELOW_20}, lambda x, y: x - y, lambda x, y: x > y,
    ),
    Template("cost", 1,
        "Every {thing} at the {place} costs {x} dollars. How many dollars does {A} pay for {y} {things}?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x * y,
    ),
    Template("change", 1,
        "{A} buys a bag of {things} for {x} dollars and pays with a {note}-dollar note. "
        "How many dollars does {A} get back?",
        {"x": LITTLE, "note": (10,)}, lambda x, note: note - x,
    ),
    Template("distance", 1,
        "{A} rides a bicycle at a steady speed of {x} kilometres per hour. "
        "How many kilometres does {A} ride in {y} hours?",
        {"x": range(8, 20), "y": range(2, 6)}, lambda x, y: x * y,
    ),
    Template("speed", 1,
        "{A} walks {x} kilometres along the river in {y} hours, always at the same speed. "
        "What is the speed in kilometres per hour?",
        {"x": BELOW_20, "y": (2, 4, 5)}, lambda x, y: Fraction(x, y), lambda x, y: 2 * y <= x <= 7 * y,
    ),
    Template("rectangle_area", 1,
        "{A} digs a rectangular garden that is {x} metres long and {y} metres wide. "
        "What is its area in square metres?",
        {"x": BELOW_20, "y": LITTLE}, lambda x, y: x * y, lambda x, y: x > y,
    ),
    Template("filling_time", 1,
        "A machine packs {y} {things} every minute. "
        "How many minutes does it need to pack {x} {things} for {A}?",
        {"x": BELOW_20, "y": LITTLE}, lambda x, y: Fraction(x, y), lambda x, y: x % y == 0 and x > y,
    ),
    Template("still_needed", 1,
        "{A} needs {x} {things} for the {place} and already has {y} of them. "
        "How many more {things} does {A} need?",
        {"x": BELOW_20, "y": BELOW_20}, lambda x, y: x - y, lambda x, y: x > y,
    ),
    Template("times_as_many", 1,
        "{B} has {x} {things}, and {A} has {y} times as many {things} as {B}. "
        "How many {things} does {A} have?",
        {"x": LITTLE, "y": LITTLE}, lambda x, y: x * y,
    ),
    Template("part_of", 1,
        "A box holds {x} {things}, and 1/{y} of them belong to {A}. "
        "How many {things} in the box belong to {A}?",
        {"x": BELOW_20, "y": (2, 3, 4, 5)}, lambda x, y: Fraction(x, y),
        lambda x, y: x % y == 0 and x >= 2 * y,
    ),
    Template("slices", 1,
        "A birthday cake is cut into {x} equal slices, and {A} and {B} together eat {y} of them. "
        "What fraction of the cake do they eat?",
        {"x": (6, 8, 9, 10, 12), "y": LITTLE}, lambda x, y: Fraction(y, x), lambda x, y: y < x,
        form="fraction",
    ),
    Template("temperature", 1,
        "At noon {A} reads {x} degrees on the thermometer. By night the temperature falls by {y} degrees. "
        "How many degrees does the thermometer show then?",
        {"x": BELOW_20, "y": BELOW_20}, lambda x, y: x - y,
    ),
    Template("cut", 1,
        "{A} cuts a rope that is {x} metres long into {y} pieces of equal length. "
        "How many metres long is each piece?",
        {"x": BELOW_20, "y": (2, 4, 5)}, lambda x, y: Fraction(x, y), lambda x, y: x > y,
    ),
    Template("buy_and_change", 2,
        "At the {place}, {A} buys {x} {things} for {y} dollars each and pays with a {note}-dollar note. "
        "How many dollars of change does {A} get?",
        {"x": LITTLE, "y": LITTLE, "note": (20, 50, 100)}, lambda x, y, note: note - x * y,
        lambda x, y, note: note / 3 < x * y < note,
    ),
    Template("two_kinds", 2,
        "{A} buys {x} {things} for {y} dollars each and {z} {others} for {w} dollars each. "
        "How many dollars does {A} spend in total?",
        {"x": LITTLE, "y": LITTLE, "z": LITTLE, "w": LITTLE}, lambda x, y, z, w: x * y + z * w,
    ),
    Template("price_with_cents", 2,
        "Each {thing} costs {x} dollars. {A} buys {y} of them and pays with a {note}-dollar note. "
        "How many dollars does {A} get back?",
        {"x": QUARTER_PRICES, "y": range(2, 5), "note": (10, 20)}, lambda x, y, note: note - x * y,
        lambda x, y, note: x.denominator > 1 and note / 4 < x * y < note, form="money",
    ),
    Template("fence", 2,
        "{A} puts a fence all the way round a rectangular field that is {x} metres long and {y} metres wide. "
        "How many metres of fence does {A} need?",
        {"x": range(5, 60), "y": range(5, 40)}, lambda x, y: 2 * (x + y), lambda x, y: x > y,
    ),
    Template("average", 2,
        "In three games, {A} scores {x}, {y} and {z} points. What is the average number of points per game?",
        {"x": BELOW_20, "y": BELOW_20, "z": BELOW_20}, lambda x, y, z: Fraction(x + y + z, 3),
        lambda x, y, z: (x + y + z) % 3 == 0,
    ),
    Template("percent_left", 2,
        "{A} brings {x} {things} to the {place} and sells {p}% of them. "
        "How many {things} does {A} still have?",
        {"x": range(20, 121, 20), "p": PERCENTS}, lambda x, p: x - Fraction(x * p, 100),
    ),
    Template("discount", 2,
        "A coat at the {place} costs {x} dollars. In the sale {A} pays {p}% less. "
        "How many dollars does {A} pay for the coat?",
        {"x": TENS, "p": PERCENTS}, lambda x, p: x - Fraction(x * p, 100), form="money",
    ),
    Template("what_percent", 2,
        "{A} has {x} {things} and gives {y} of them to {B}. "
        "What percentage of the {things} does {A} give away? Answer with the number only.",
        {"x": (10, 20, 25, 40, 50), "y": BELOW_20}, lambda x, y: Fraction(100 * y, x),
        lambda x, y: y < x and 100 * y % x == 0,
    ),
    Template("there_and_back", 2,
        "The school is {x} kilometres from {A}'s home. {A} cycles there and back on {y} days. "
        "How many kilometres does {A} cycle altogether?",
        {"x": BELOW_20, "y": LITTLE}, lambda x, y: 2 * x * y,
    ),
    Template("same_speed", 2,
        "A train that {A} takes travels {x} kilometres in {y} hours. "
        "At the same speed, how many kilometres does it travel in {z} hours?",
        {"x": range(120, 481, 20), "y": LITTLE, "z": LITTLE}, lambda x, y, z: Fraction(x, y) * z,
        lambda x, y, z: x % y == 0 and 40 <= x // y <= 160 and y != z,
    ),
    Template("share_the_rest", 2,
        "{A} has {x} {things}, keeps {y} of them and shares the rest equally among {z} friends. "
        "How many {things} does each friend get?",
        {"x": range(10, 60), "y": LITTLE, "z": LITTLE}, lambda x, y, z: Fraction(x - y, z),
        lambda x, y, z: (x - y) % z == 0 and x - y > z,
    ),
    Template("ages_together", 2,
        "{B} is {x} years old, and {A} is {y} years older than {B}. How many years old are they together?",
        {"x": range(4, 30), "y": BELOW_20}, lambda x, y: 2 * x + y,
    ),
    Template("pages_left", 2,
        "{A} borrows a book that has {x} pages and reads {y} pages a day for {z} days. "
        "How many pages are left to read?",
        {"x": range(60, 200), "y": range(5, 25), "z": LITTLE}, lambda x, y, z: x - y * z,
        lambda x, y, z: x > y * z + 1,
    ),
    Template("recipe", 2,
        "A recipe for {x} people needs {y} grams of flour. "
        "How many grams of flour does {A} need to cook the same dish for {z} people?",
        {"x": LITTLE, "y": range(100, 601, 50), "z": range(2, 13)}, lambda x, y, z: Fraction(y, x) * z,
        lambda x, y, z: y % x == 0 and x != z,
    ),
    Template("juice", 2,
        "{A} drinks 1/{x} of a litre of juice in the morning and 1/{y} of a litre in the evening. "
        "What fraction of a litre does {A} drink in total?",
        {"x": range(2, 9), "y": range(2, 9)}, lambda x, y: Fraction(1, x) + Fraction(1, y),
        lambda x, y: x != y, form="fraction",
    ),
    Template("wage", 2,
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
    by_steps = {steps: [t for t in TEMPLATES if t.steps == steps] for steps in (1, 2)}
    seen: set[str] = set()
    while len(seen) < count:
        problem = fill(rng.choice(by_steps[1 if rng.randrange(10) < 6 else 2]), rng)
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
