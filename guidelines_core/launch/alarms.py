"""Shows a run's alarms as they are raised, and sends them to its webhook."""

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


class Announcer:
    """Takes a run's journal line by line and says which alarms it raises, on the console and by the webhook."""

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
        """Take a line of the journal, `{"step": int, "data": {metric: value}}`, and say what it raises."""
        for alarm in self._log.take(as_entry(line)):
            text = f"alarm {alarm}"
            self._console.print(text, style="bold yellow", markup=False, highlight=False, soft_wrap=True)
            if self._webhook is not None:
                self._webhook.send(f"{self._run_name}: {text}")

    def close(self) -> None:
        """Wait a little for what is still to be sent."""
        if self._webhook is not None:
            self._webhook.close()
