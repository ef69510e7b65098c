"""Prints a run's alarms when they begin, and sends them to its webhook."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from guidelines_core.launch.webhook import Webhook
from guidelines_core.runs.alarms import Alarm, AlarmLog
from guidelines_core.runs.journal import Journal, as_entry, attempts, history


class AlarmReporter:
    """Reads a run's journal line by line, and reports each alarm that begins on the console and to the webhook.

    Args:
        config: the run's configuration.
        run_name: begins each message to the webhook.
        directory: the run's directory, with the journals of earlier attempts.
        console: where alarms are printed.
        environ: holds the webhook's address under the name in `guidelines.alarms.webhook_env`.
    """

    def __init__(
        self,
        config: DictConfig,
        run_name: str,
        directory: Path,
        console: Console,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        settings = config.guidelines.alarms
        earlier = history(Journal(path).entries() for path in attempts(directory))
        self._log = AlarmLog(OmegaConf.to_container(settings.limits), earlier)  # type: ignore[arg-type]
        self._run_name, self._console = run_name, console
        address = environ.get(settings.webhook_env) if settings.webhook_env else None
        self._webhook = Webhook(address) if address else None

    @property
    def alarms(self) -> list[Alarm]:
        """All alarms of the run so far."""
        return self._log.alarms

    def take(self, line: dict[str, Any]) -> None:
        """Read a journal line, `{"step": int, "data": {metric: value}}`, and report the alarms that begin with it."""
        for alarm in self._log.take(as_entry(line)):
            text = f"alarm {alarm}"
            self._console.print(text, style="bold yellow", highlight=False, soft_wrap=True)
            if self._webhook is not None:
                self._webhook.send(f"{self._run_name}: {text}")

    def close(self) -> None:
        """Wait for the messages that are still to be sent, at most 15 s."""
        if self._webhook is not None:
            self._webhook.close()
