r"""Whether two answers, read as nodes, say the same: by what they are, then by their values.

None where neither can be said, for math-verify to judge. Wherever an answer could be taken for more than one thing, it
is wrong. `same` is the order in which the forms are asked; it is handed to the module of each form, for the form's
parts.
"""

from __future__ import annotations

from guidelines_core.grading.comparing.chains import result_of
from guidelines_core.grading.comparing.clauses import clauses_agree, clauses_of, dummies, without_clauses
from guidelines_core.grading.comparing.equations import same_statement
from guidelines_core.grading.comparing.measures import has_modulus, same_in_base, same_quantity
from guidelines_core.grading.comparing.plain_form import in_plain_form
from guidelines_core.grading.comparing.ratios import is_ratio_or_time, same_ratio
from guidelines_core.grading.comparing.renaming import renamed
from guidelines_core.grading.comparing.set_forms import same_as_sets
from guidelines_core.grading.comparing.several import same_members
from guidelines_core.grading.comparing.vectors import same_matrix, same_tuple
from guidelines_core.grading.comparing.words import same_in_words
from guidelines_core.grading.reading.nodes import Node


def equal(gold: Node, answer: Node) -> bool | None:
    """Tell whether an answer says the same as the gold."""
    if gold.key == answer.key:
        return True
    wanted, given = clauses_of(gold), clauses_of(answer)
    if not clauses_agree(wanted, given):
        return False
    gold, answer = in_plain_form(without_clauses(gold), same), in_plain_form(without_clauses(answer), same)
    return same(gold, renamed(gold, answer, dummies(wanted), dummies(given)))


def same(gold: Node, answer: Node) -> bool | None:
    """Tell whether an answer in plain form, or a part of one, says the same as the gold or its part."""
    heads = {gold.head, answer.head}
    if gold.key == answer.key:
        return True
    if "text" in heads:
        return same_in_words(gold, answer)
    if is_ratio_or_time(gold) or is_ratio_or_time(answer):
        return same_ratio(gold, answer, same)
    if (verdict := same_as_sets(gold, answer, same)) is not None:
        return verdict
    if gold.head == "relation":
        return same_statement(gold, answer, same)
    if answer.head == "relation":
        result = result_of(answer, gold, same)
        return False if result is None else same(gold, result)
    if heads & {"list", "set"}:
        return same_members(gold, answer, same)
    if "matrix" in heads:
        return same_matrix(gold, answer, same)
    if heads & {"()", "[]", "<>"}:
        return same_tuple(gold, answer, same)
    if "based" in heads:
        return same_in_base(gold, answer)
    return same_quantity(gold, answer) if has_modulus(gold) == has_modulus(answer) else False
