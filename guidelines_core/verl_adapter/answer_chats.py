"""Generates one model's answers to many chats in a separate process, whose memory is free afterwards.

    python -m guidelines_core.verl_adapter.answer_chats JOB.json

`analysis/lift.py` and `guidelines_core.data.pass_rate` start it. A job is `model`, `engine` (vLLM's
arguments), `sampling` (vLLM's, without seed) and `tasks`: pairs of files, `requests` (lines `{"id", "messages",
"seed"}`, the seed null for vLLM's own state) and `answers` (lines `{"id", "text", "tokens", "finish"}`).
Each answer is written when it is finished. Answered requests are skipped, so a job can be stopped and continued.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from guidelines_core.json_lines import open_to_append, read_lines

TOO_LONG = "too_long"
"""The `finish` of a prompt that leaves no room for an answer in the model's context."""


@dataclass(frozen=True)
class Request:
    """An unanswered chat: its id, tokens, sampling seed, and the file for the answer."""

    id: str
    prompt: list[int]
    seed: int | None
    answers: Path


def main(job_file: str) -> int:
    """Answer the job's open requests."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    requests, too_long = unanswered(job)
    files = {Path(task["answers"]): open_to_append(Path(task["answers"])) for task in job["tasks"]}
    for request in too_long:
        write(files[request.answers], request.id, "", 0, TOO_LONG)
    if requests:
        answer(job, requests, files)
    return 0


def unanswered(job: dict[str, Any]) -> tuple[list[Request], list[Request]]:
    """Return the unanswered requests that fit the model's context, and those that do not."""
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    context = AutoConfig.from_pretrained(job["model"]).max_position_embeddings
    fitting: list[Request] = []
    too_long: list[Request] = []
    for task in job["tasks"]:
        answers = Path(task["answers"])
        done = {line["id"] for line in read_lines(answers)}
        for asked in read_lines(Path(task["requests"])):
            if asked["id"] in done:
                continue
            text = tokenizer.apply_chat_template(asked["messages"], add_generation_prompt=True, tokenize=False)
            prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
            room = len(prompt) + job["sampling"]["max_tokens"] <= context
            (fitting if room else too_long).append(Request(asked["id"], prompt, asked["seed"], answers))
    return fitting, too_long


def answer(job: dict[str, Any], requests: list[Request], files: dict[Path, TextIO]) -> None:
    """Answer the requests with vLLM, as many at once as it schedules, and write each answer when it is finished."""
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import RequestOutputKind

    longest = max(len(request.prompt) for request in requests) + job["sampling"]["max_tokens"]
    engine = job["engine"]
    if not engine.get("enable_chunked_prefill", True):
        engine["max_num_batched_tokens"] = max(longest, engine.get("max_num_batched_tokens") or 0)
    llm = LLM(model=job["model"], max_model_len=longest, **engine).llm_engine
    for number, request in enumerate(requests):
        kind = RequestOutputKind.FINAL_ONLY
        sampling = SamplingParams(**job["sampling"], seed=request.seed, output_kind=kind)
        llm.add_request(str(number), {"prompt_token_ids": request.prompt}, sampling)
    while llm.has_unfinished_requests():
        for output in llm.step():
            if output.finished:
                request, written = requests[int(output.request_id)], output.outputs[0]
                write(files[request.answers], request.id, written.text, len(written.token_ids), written.finish_reason)


def write(file: TextIO, request_id: str, text: str, tokens: int, finish: str) -> None:
    """Write an answer as a line."""
    file.write(json.dumps({"id": request_id, "text": text, "tokens": tokens, "finish": finish}) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
