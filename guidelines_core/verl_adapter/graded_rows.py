"""The graded rows of each step and validation: read from a batch, written to the run's directory, and their metrics."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import transfer_queue as tq

from guidelines_core.config.layout import validation_guideline_tokens
from guidelines_core.reward.metrics import count_metrics, reward_metrics, uplift
from guidelines_core.reward.row import load, table
from guidelines_core.runs.phases import RECORD, seconds_metric
from guidelines_core.solver.watch import Watch


class GradedRows:
    """Mixed into one of verl's V1 trainers: graded rows and the reward's metrics."""

    _watch: Watch | None = None

    def _compute_metrics(
        self, batch: Any, metrics: dict[str, Any], timing_raw: Any, global_steps: int, epoch: int
    ) -> None:
        """Add the reward's metrics to verl's and write the step's graded rows."""
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)  # type: ignore[misc]
        began = time.monotonic()
        rows = self._graded_rows(batch)
        metrics.update(reward_metrics(rows))
        metrics.update(self._reward_counts())
        if self._watch is not None:
            metrics.update(self._watch.take_metrics())
        self._write_rows(rows, "train")
        metrics[seconds_metric(RECORD)] = time.monotonic() - began

    def _graded_rows(self, batch: Any) -> pd.DataFrame:
        """Return the batch's graded rows, without the padding of a mini-batch."""
        fields = ["uid", "advantages", "response_mask", "extra_fields"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        rows = []
        for key, tag, uid, advantages, mask, extra in zip(
            batch.keys,
            batch.tags,
            list(data["uid"]),
            data["advantages"].unbind(),
            data["response_mask"].unbind(),
            list(data["extra_fields"]),
            strict=True,
        ):
            if tag.get("is_padding", False):
                continue
            for row in load(getattr(extra, "data", extra)["reward_extra_info"]["graded"]):
                rows.append(
                    replace(
                        row,
                        step=self.global_steps,  # type: ignore[attr-defined]
                        group=str(getattr(uid, "data", uid)),
                        rollout=int(key.rsplit("_", 2)[1]),
                        advantage=float(advantages[mask.bool()].mean()),
                        guideline_tokens=tag["response_len"],
                        guideline_truncated=float(
                            tag["response_len"] >= self.config.data.max_response_length  # type: ignore[attr-defined]
                        ),
                    )
                )
        graded = table(rows)
        graded.sort_values(["problem_id", "group", "rollout", "sample"], ignore_index=True, inplace=True)
        return graded

    def _first_failure(self) -> str:
        """Return in words why the first of the step's rollouts without verdict got none."""
        rewards: Any = self.reward_loop_manager  # type: ignore[attr-defined]
        return f"the first: {rewards.first_failure() or 'not known'}"

    def _reward_counts(self) -> dict[str, float]:
        """Return what the reward workers counted since the last call."""
        return count_metrics(self.reward_loop_manager.take_counts())  # type: ignore[attr-defined]

    def _val_metrics_update(
        self,
        data_sources: Any,
        sample_uids: Any,
        reward_extra_infos_dict: dict[str, list[Any]],
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Write the validation's graded rows and add their accuracy under a name that every experiment shares."""
        metrics: dict[str, Any] = super()._val_metrics_update(  # type: ignore[misc]
            data_sources, sample_uids, reward_extra_infos_dict, *args, **kwargs
        )
        met: Counter[str] = Counter()
        longest = validation_guideline_tokens(self.config)  # type: ignore[attr-defined]
        rows = []
        for uid, text in zip(map(str, sample_uids), reward_extra_infos_dict["graded"], strict=True):
            # None where the rollout has no verdict.
            for row in load(text) if text is not None else []:
                cut = float(row.guideline_tokens >= longest)
                named = replace(row, group=uid, rollout=met[uid], guideline_truncated=cut)
                rows.append(replace(named, step=self.global_steps))  # type: ignore[attr-defined]
            met[uid] += 1
        graded = table(rows)
        metrics["validation/accuracy"] = float(graded["acc"].mean())
        self._validated = (self.global_steps, metrics["validation/accuracy"])  # type: ignore[attr-defined]
        metrics["validation/problems"] = float(graded["problem_id"].nunique())
        metrics.update(uplift("validation", graded))
        metrics["validation/guideline_truncated"] = float(graded["guideline_truncated"].mean())
        metrics["validation/solution_truncated"] = float(graded["solution_truncated"].mean())
        self._write_rows(graded, "validation")
        return metrics

    def _write_rows(self, rows: pd.DataFrame, kind: str) -> None:
        """Write the rows to a Parquet file, which appears complete: another process copies it to MLflow."""
        step = self.global_steps  # type: ignore[attr-defined]
        folder = Path(self.config.trainer.default_local_dir) / "rows"  # type: ignore[attr-defined]
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{kind}_{step:06d}.parquet"
        making = file.with_suffix(".making")
        rows.to_parquet(making, index=False)
        making.replace(file)
