"""A solver that runs elsewhere, as `--solver URL#MODEL` or the run's own `guidelines.solver.url` name it."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from guidelines_core.config import layout
from guidelines_core.digests import text_seed
from guidelines_core.json_lines import open_to_append
from guidelines_core.prompts import Message
from guidelines_core.solver.client import RefusedError, Solver
from guidelines_core.solver.offer import Wanted, faults
from guidelines_core.solver.servers import key_of, url_fault
from guidelines_core.verl_adapter.answer_chats import TOO_LONG

EXPECTED = "expected URL#MODEL, such as http://HOST:8000/v1#MODEL, where MODEL is the server's name for its model"


@dataclass(frozen=True)
class Elsewhere:
    """A solver's servers elsewhere: their URLs, their name for its model, and the variable that holds their key."""

    urls: tuple[str, ...]
    model: str
    key_env: str | None

    def __str__(self) -> str:
        """Return the solver as `--solver` takes it, with all of its URLs."""
        return f"{','.join(self.urls)}#{self.model}"


def solver_of(config: DictConfig) -> str | Elsewhere:
    """Return the solver of a run: its folder or hub id, or where it runs."""
    solver = config.guidelines.solver
    if urls := layout.solver_urls(config):
        return Elsewhere(tuple(urls), str(solver.model), solver.key_env)
    return str(solver.model)


def parse(text: str, key_env: str | None) -> Elsewhere:
    """Return the solver that `URL#MODEL` names.

    Raises:
        ValueError: it is no such text; the message does not repeat a URL that may hold a secret.
    """
    url, _, model = text.rpartition("#")
    if fault := url_fault(url):
        raise ValueError(f"{fault}; {EXPECTED}")
    if not model:
        raise ValueError(f"no model is named; {EXPECTED}")
    return Elsewhere((url,), model, key_env)


def name_of(solver: str | Elsewhere) -> str:
    """Return the name that a solver has in results."""
    return Path(solver if isinstance(solver, str) else solver.model).name


def unfit(solver: Elsewhere, config: DictConfig, temperature: float) -> list[str]:
    """Return a sentence for each server that cannot answer as the measurement asks; none if all can."""
    wanted = Wanted(solver.urls, solver.model, solver.key_env, samples=1, temperature=temperature, seeded=True,
                    context=config.data.max_prompt_length + layout.guideline_tokens(config)
                    + layout.solution_tokens(config))  # fmt: skip
    return [f"{solver}: {fault.value}: {fault.reason}; {fault.remedy}" for fault in faults(wanted)]


def answer(
    solver: Elsewhere,
    settings: DictConfig,
    sampling: Mapping[str, Any],
    chats: Mapping[Path, Mapping[str, list[Message]]],
    answered: Callable[[Path], None],
) -> None:
    """Ask for an answer to every chat and append it to its file as soon as it comes.

    Args:
        settings: the run's section `guidelines.solver`, for deadlines and requests in flight.
        sampling: `temperature` and `max_tokens`.
        chats: by file, the chats without an answer by their ids.
        answered: called with the file of each answer.

    Raises:
        SolverError: a chat got no answer.
    """
    asyncio.run(_answer(solver, settings, sampling, chats, answered))


async def _answer(
    solver: Elsewhere,
    settings: DictConfig,
    sampling: Mapping[str, Any],
    chats: Mapping[Path, Mapping[str, list[Message]]],
    answered: Callable[[Path], None],
) -> None:
    client = Solver(
        solver.urls,
        solver.model,
        max_tokens=sampling["max_tokens"],
        max_concurrency=settings.max_concurrency,
        deadline_s=settings.deadline_s,
        # A measurement is no step: it has as many problems as it has.
        step_deadline_s=math.inf,
        seed=0,
        key=key_of(solver.key_env),
    )
    with ExitStack() as stack:
        files = {path: stack.enter_context(open_to_append(path)) for path in chats}

        async def one(path: Path, chat_id: str, chat: list[Message]) -> None:
            try:
                [found] = await client.solve(chat, temperature=sampling["temperature"], seed=text_seed(chat_id))
                line = {"text": found.text, "tokens": found.tokens, "finish": "length" if found.truncated else "stop"}
            except RefusedError as error:
                # vLLM: "This model's maximum context length is …"; OpenAI's code: context_length_exceeded.
                if "context" not in str(error):
                    raise
                line = {"text": "", "tokens": 0, "finish": TOO_LONG}
            files[path].write(json.dumps({"id": chat_id, **line}) + "\n")
            answered(path)

        await asyncio.gather(*(one(path, *item) for path, of_file in chats.items() for item in of_file.items()))
