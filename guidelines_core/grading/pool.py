"""Grades (gold, solution) pairs with every grader, each pair with a deadline that really ends.

What needs no algebra is judged in the caller's thread, the rest in child processes (`worker`). Pebble's pool was tried:
it breaks for good when an idle worker dies.
"""

from __future__ import annotations

import asyncio
import queue
from concurrent.futures import Future, ThreadPoolExecutor

from guidelines_core.grading.extract import final_answer, gold_text
from guidelines_core.grading.verdicts import GRADERS, Grader, Reason, Verdict, judged, verdict_of
from guidelines_core.grading.worker import Worker


class GradingPool:
    """Grades pairs with every grader in `GRADERS`; a pair that hangs costs its deadline and no more.

    `workers` child processes (started at their first pair); `deadline` seconds a pair, from the moment a
    child takes it; `memory_mb` MiB of address space a child. Verdicts come as dicts keyed by grader.
    Raises ValueError on a setting that is not positive.
    """

    def __init__(self, workers: int = 2, deadline: float = 5.0, memory_mb: int = 1024) -> None:
        for key, value in {"workers": workers, "deadline": deadline, "memory_mb": memory_mb}.items():
            if not value > 0:
                raise ValueError(f"{key}={value!r}: expected a number above 0; set it to at least 1")
        self._workers = [Worker(deadline, memory_mb) for _ in range(workers)]
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="grading")

    def submit(self, gold: str, solution: str) -> Future[dict[str, Verdict]]:
        """Queue a pair; what can be judged at once is judged here and now, and stands whatever a child does."""
        wanted, answer = gold_text(gold), final_answer(solution)
        verdicts: dict[str, Verdict | None]
        if wanted is None or answer is None:
            reason = Reason.GOLD_UNPARSEABLE if wanted is None else Reason.NO_ANSWER
            verdicts = dict.fromkeys(GRADERS, verdict_of(reason))
            wanted = answer = ""
        else:
            verdicts = {name: self._at_once(grader, wanted, answer) for name, grader in GRADERS.items()}
        if all(verdicts.values()):
            done: Future[dict[str, Verdict]] = Future()
            done.set_result({name: verdict for name, verdict in verdicts.items() if verdict})
            return done
        return self._threads.submit(self._finish, verdicts, wanted, answer)

    @staticmethod
    def _at_once(grader: Grader, gold: str, answer: str) -> Verdict | None:
        equal = grader.at_once(gold, answer) if grader.at_once else None
        return None if equal is None and grader.in_process else judged(equal)

    def _finish(self, verdicts: dict[str, Verdict | None], gold: str, answer: str) -> dict[str, Verdict]:
        worker = self._idle.get()
        try:
            return {name: verdict or worker.judge(name, gold, answer) for name, verdict in verdicts.items()}
        finally:
            self._idle.put(worker)

    async def grade(self, gold: str, solution: str) -> dict[str, Verdict]:
        """Grade a pair without blocking the event loop."""
        return await asyncio.wrap_future(self.submit(gold, solution))

    def grade_sync(self, gold: str, solution: str) -> dict[str, Verdict]:
        """Grade a pair and wait for it."""
        return self.submit(gold, solution).result()

    def close(self) -> None:
        """Kill the children and give up the pairs that wait (their futures are cancelled)."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.close()
        self._threads.shutdown(wait=True)
        for worker in self._workers:
            worker.stop()

    def __enter__(self) -> GradingPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
