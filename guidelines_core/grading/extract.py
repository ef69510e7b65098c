r"""A solution's final answer: its box, or what it states last; found in linear, capped time."""

from __future__ import annotations

import re

MAX_SOLUTION = 32_000  # characters from the end that are searched for the answer: at most some 10 ms
MAX_ANSWER = 2_000  # characters; longer is no final answer

# -- what the answer is -----------------------------------------------------------------------------------

_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[{}\\]|[{}]")
_UNBRACED = re.compile(r"\\(?:boxed|fbox)\s*(\d+(?:\.\d+)?|[A-Za-z]|\\[A-Za-z]+)(?![A-Za-z{])")
_BOX_NAME = re.compile(r"(?<![A-Za-z\\])([A-Za-z](?:_\d)?)\s*=\s*$")
_NEGATED = re.compile(r"(?:[=$(:]|\\\[)\s*-\s*$")  # x = -\\boxed{5}
_APPROXIMATELY = re.compile(r"[\s$]*(?:\\approx|≈|\\doteq)[\s$]*")
_CONNECTOR = re.compile(
    r"(?:[\s$.,;&()\[\]}]|\\[()\[\],;]|\\q?quad|\\text\s*\{|\b(?:and|or)\b|(?<![A-Za-z\\])[A-Za-z](?:_\d)?\s*=)*"
)
_MARKED = re.compile(r"^\s*####[ \t]*(?=\S)|^\s*A:[ \t]*(?=\S)", re.MULTILINE)  # GSM8K's
_TAGGED = re.compile(r"<answer>(.{1,2000}?)</answer>", re.DOTALL)
_ANSWER_IS = re.compile(
    r"\banswer\b[^.\n]{0,40}?(?:\bis\b|:|=)[\s*:]*(?=\S)|答案(?:是|为)?[\s::]*(?=\S)", re.IGNORECASE
)
_CONCLUSION = re.compile(
    r"(?:^|(?<=[.!?\n])\s*)(?:so|thus|hence|therefore|finally|then|actually|wait|in conclusion|we (?:get|have))\b", re.I
)
# As in pandoc, a dollar sign before a space or after one, or before a digit and unpaired, is money.
_MATH = re.compile(
    r"\$\$([^$]+)\$\$|\$(?!\s)([^$\n]*[^$\s])\$(?!\d)|\$\s+((?![^$\n]{0,300}[a-z]\s+[a-z]{2})[^$\n]{1,300}?)\s+\$|"
    r"\$(?!\s)(\\[^$\n]{1,300}?)\s+\$(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]",
    re.DOTALL,
)
_NUMBER = re.compile(r"(?<![\dA-Za-z.])-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+)?(?:\s*\\?%)?")
_OPTION = re.compile(r"\b(?:option|choice)\b\s*(?:is\s*)?:?\s*\(?\b([A-J])\b\)?", re.IGNORECASE)
_LETTER_ALONE = re.compile(r"^\s*\(?([A-J])\)?\s*\.?\s*$", re.MULTILINE)
_BOLD_LETTER = re.compile(r"\*\*\s*\(?([A-J])\)?\s*[.:]?\s*\*\*")
_LIMITED = re.compile(
    r"\b(?:not|or|more|less|least|most|fewer|between|maybe|perhaps|about|than|possibly|unless)\b", re.I
)
_SENTENCE_END = re.compile(r"[.;,!?\u3002\uff0c\uff1b]+(?:\s|$)|[\u3002\uff1b]|\n")


def final_answer(solution: str) -> str | None:
    r"""Return the text of the solution's final answer, or None.

    The last closed `\boxed{}` that is not empty, joined with commas to boxes right before it that differ (a
    list of candidates stays a list). None for a box that is never closed or too long. Without any box: what
    follows GSM8K's `####` or "the answer is", else the last formula or number.
    """
    text = _UNBRACED.sub(lambda box: rf"\boxed{{{box[1]}}}", solution[-MAX_SOLUTION:])
    stack: list[int | None] = []
    boxes: list[tuple[int, int, int]] = []  # where the command, its content and its closing brace start
    starts: dict[int, int] = {}
    for token in _BRACE.finditer(text):
        if token.group() in ("}", "{"):
            if token.group() == "{":
                stack.append(None)
            elif stack and (start := stack.pop()) is not None:
                boxes.append((starts.pop(start), start, token.start()))
        elif len(token.group()) > 2:
            stack.append(token.end())
            starts[token.end()] = token.start()
    boxes = [box for box in boxes if text[box[1] : box[2]].strip()]
    if not boxes:
        return None if starts else _answer_in_prose(text[-MAX_ANSWER:])
    begin, start, end = boxes.pop()
    if any(opened > end for opened in starts):
        return None
    answer, boxes_end = text[start:end].strip(), end
    while boxes:
        earlier = boxes.pop()
        if earlier[0] >= begin:  # nested in the box above: its text is already there
            continue
        gap = text[earlier[2] + 1 : begin]
        if _APPROXIMATELY.fullmatch(gap):  # the exact value comes first
            begin, answer = earlier[0], rf"{text[earlier[1] : earlier[2]].strip()} \approx {answer}"
            continue
        if len(gap) > 40 or len(answer) > MAX_ANSWER or not _CONNECTOR.fullmatch(gap):
            break
        names = [_BOX_NAME.search(before) for before in (text[max(0, earlier[0] - 20) : earlier[0]], gap)]
        if all(names) and "=" not in answer:
            answer = f"{names[1][1]} = {answer}"  # type: ignore[index]
        begin, content = earlier[0], text[earlier[1] : earlier[2]].strip()
        if all(names):
            answer = f"{names[0][1]} = {content}, {answer}"  # type: ignore[index]
        elif content != answer:
            answer = f"{content}, {answer}"
    before, after = text[:begin].rstrip(), text[boxes_end + 1 :].lstrip()
    if "," in answer and before.endswith("(") and after.startswith(")"):
        answer = f"({answer})"
    elif _NEGATED.search(before[-60:]):
        answer = f"-({answer})"
    answer = re.sub(r"\\(?:boxed|fbox)\s*(?=\{)", "", answer)
    return answer if len(answer) <= MAX_ANSWER else None


def _answer_in_prose(text: str) -> str | None:
    """Return what is stated as the answer, else the last formula or number."""
    if tagged := _TAGGED.findall(text):
        return tagged[-1].strip() or None
    stated = [match.end() for match in _MARKED.finditer(text)]
    if not stated:
        stated = [match.end() for match in _ANSWER_IS.finditer(text)]
        later = [match.end() for match in _CONCLUSION.finditer(text, stated[-1])] if stated else []
        if later and _SENTENCE_END.search(text, stated[-1], later[-1]) and _candidates(text[later[-1] :]):
            stated = []
    if not stated:
        if _is_formula(text):
            return text.strip()
        found = _candidates(text)
        return found[-1].strip(" *") if found else None
    sentence = _sentence(text[stated[-1] :])
    if re.match(r"not\b", sentence) and not _candidates(sentence):  # the answer is not obvious
        found = _candidates(text)
        return found[-1].strip(" *") if found else None
    sentence = re.split(r"(?<=[\d$)])\s+(?:when|where|since|because|as)\b", sentence, maxsplit=1)[0]
    *_, last = re.split(r"\b(?:is|are|equals)\b:?", sentence)
    if last.strip() and last is not sentence and _candidates(last):
        sentence = last.strip()
    formulas = ["".join(groups) for groups in _MATH.findall(sentence)]
    found = formulas or [number.rstrip(",") for number in _NUMBER.findall(sentence)]
    if _LIMITED.search(sentence) or (
        not formulas and (len(found) != 1 or re.search(r"[a-z]\d|\d[a-z]|[-+*/^=\\(]", sentence))
    ):
        found = [sentence]
    return ", ".join(found).strip(" *") or None


def _sentence(text: str) -> str:
    """Return the first sentence that has an answer in it: "the following." has none."""
    rest = text.strip()
    for _ in range(4):
        display = re.match(r"\$\$[^$]+\$\$|\\\[.+?\\\]", rest, re.DOTALL)
        sentence = display[0] if display else _SENTENCE_END.split(rest, maxsplit=1)[0]
        if _candidates(sentence) or not re.search(r"follow|below|\*\*$|^\W*$", sentence) or len(sentence) == len(rest):
            return sentence
        rest = rest[len(sentence) :].lstrip(" \n.:;,!?*")
    return rest


def _candidates(text: str) -> list[str]:
    """Return every formula, and every number outside of one, in their order."""
    formulas = [(match.start(), match.end(), "".join(g for g in match.groups() if g)) for match in _MATH.finditer(text)]
    found = [(start, formula) for start, _, formula in formulas]
    for letter in (_OPTION, _BOLD_LETTER, _LETTER_ALONE):
        found += [(match.start(), f"({match[1]})") for match in letter.finditer(text)]
    for match in _NUMBER.finditer(text):
        if not any(start <= match.start() < end for start, end, _ in formulas):
            found.append((match.start(), match[0].rstrip(",")))
    return [candidate for _, candidate in sorted(found)]


def _is_formula(text: str) -> bool:
    r"""Tell whether the whole text is one line of LaTeX without delimiters: \frac{10}{9}."""
    line = text.strip()
    if re.fullmatch(r"-?\d{1,3}(?: \d{3})+", line):
        return True
    return (
        line.lstrip("-").startswith("\\")
        and "\n" not in line
        and not re.search(r"boxed|(?<![\\A-Za-z{])[A-Za-z]{2,}(?![A-Za-z}])|\$|\\[(\[]", line)
    )


def gold_text(gold: str) -> str | None:
    """Return the text of a gold, taken out of its box if it has one, or None if empty or too long."""
    gold = gold.strip()
    if "\\boxed" in gold or "\\fbox" in gold:
        return final_answer(gold)
    return gold if 0 < len(gold) <= MAX_ANSWER else None
