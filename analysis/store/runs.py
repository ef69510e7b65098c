"""Reads recorded runs: metrics, graded rows, configuration, artifacts.

Reading goes through MLflow's client, so it works with any store that MLflow supports.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import mlflow.artifacts
import mlflow.entities
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from mlflow import MlflowClient

from guidelines_core.reward.row import COLUMNS
from guidelines_core.runs.journal import STEP
from guidelines_core.runs.lookup import RunError, find_run
from guidelines_core.runs.metric_names import recorded

Split = Literal["train", "validation"]


class _Loader(yaml.CSafeLoader):
    """Reads 1e-06, as OmegaConf writes it, as a number; YAML 1.1 requires 1.0e-06."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


@dataclass(frozen=True)
class Run:
    """A recorded run and its store."""

    client: MlflowClient
    entity: mlflow.entities.Run

    @property
    def id(self) -> str:
        """MLflow's id of the run."""
        return str(self.entity.info.run_id)

    @property
    def name(self) -> str:
        """The run's name, which two runs may share."""
        return str(self.entity.info.run_name)

    @property
    def status(self) -> str:
        """MLflow's status: FINISHED, FAILED, KILLED, RUNNING or SCHEDULED."""
        return str(self.entity.info.status)

    @property
    def tags(self) -> dict[str, str]:
        """The run's tags."""
        return dict(self.entity.data.tags)

    @property
    def final(self) -> dict[str, float]:
        """The last value of each metric, by the journal's name."""
        return {name: self.entity.data.metrics[key] for name, key in self.metric_keys.items()}

    @property
    def metric_keys(self) -> dict[str, str]:
        """MLflow's name of each metric by the journal's; a run that has both, by a resume, goes by the newer one."""
        keys = sorted(self.entity.data.metrics, key=lambda key: key != recorded(key))
        return {recorded(key): key for key in keys}


def resolve(text: str, client: MlflowClient) -> Run:
    """Return the run that `text` names (see `find_run`) with its store.

    Raises:
        RunError: `text` names no run, or runs in several MLflow experiments.
    """
    return Run(client, find_run(text, client))


def resolve_all(texts: Sequence[str], client: MlflowClient) -> list[Run]:
    """Return the runs that `texts` name.

    Raises:
        RunError: one of them names no run, or two name the same.
    """
    runs = [resolve(text, client) for text in texts]
    ids = [run.id for run in runs]
    for text, run in zip(texts, runs, strict=True):
        if ids.count(run.id) > 1:
            raise RunError(f"run {text!r}: given twice, it is {run.id} both times; give each run once")
    return runs


def labels(runs: Sequence[Run]) -> list[str]:
    """Return a unique short name for each run: its name, with the start of its id if runs share the name."""
    names = [run.name for run in runs]
    return [f"{run.name} {run.id[:6]}" if names.count(run.name) > 1 else run.name for run in runs]


def history(run: Run, metrics: Collection[str] | None = None) -> pd.DataFrame:
    """Return the run's metrics over its steps: index `step`, a column for each metric, NaN where none was logged.

    A step that was logged twice (a resumed run repeats what came after its checkpoint) counts as logged last. Steps
    beyond `last_step` are left out.

    Args:
        run: the run.
        metrics: the names, with a query each (6 ms for 300 steps in SQLite); None: all. Names that the run lacks are
            left out.
    """
    wanted = {name: key for name, key in run.metric_keys.items() if metrics is None or name in metrics}
    columns = {}
    for name, key in wanted.items():
        values = sorted(run.client.get_metric_history(run.id, key), key=lambda metric: metric.timestamp)
        columns[name] = pd.Series({metric.step: metric.value for metric in values}, dtype=float)
    table = pd.DataFrame(columns, columns=list(wanted), dtype=float).sort_index()
    table.index = pd.Index(table.index.astype(int), name="step")
    kept: pd.DataFrame = table.loc[: last_step(run)]
    return kept


def last_step(run: Run) -> float:
    """Return the step that the run trained last, infinity if it has trained none.

    A run that was resumed and then ended early had trained further steps before, from other weights; MLflow keeps them.
    """
    key = run.metric_keys.get(STEP)
    if key is None:
        return math.inf
    return float(max(run.client.get_metric_history(run.id, key), key=lambda metric: metric.timestamp).step)


def rows(
    run: Run,
    kind: Split,
    columns: Sequence[str] | None = None,
    steps: Collection[int] | None = None,
) -> pd.DataFrame:
    """Return every graded row of the run's training or validation, steps in order; empty if it has none.

    A row is a `GradedRow`, its columns are `COLUMNS`. Steps beyond `last_step` are left out.

    Args:
        run: the run.
        kind: training or validation.
        columns: the columns to read, to save memory (mostly solutions); None: all. Columns that a file lacks are NaN,
            except `sample`, which is 0.
        steps: the steps to read; None: all.

    Raises:
        ValueError: a graded row has no such column.
    """
    if unknown := set(columns or ()) - set(COLUMNS):
        raise ValueError(f"columns {', '.join(sorted(unknown))}: a graded row has {', '.join(COLUMNS)}")
    files = sorted(artifact(run, "rows").glob(f"{kind}_*.parquet")) if "rows" in artifacts(run) else []
    last = last_step(run)
    numbers = {file: int(file.stem.removeprefix(f"{kind}_")) for file in files}
    files = [file for file in files if numbers[file] <= last and (steps is None or numbers[file] in steps)]
    tables = [_read(file, columns) for file in files]
    table: pd.DataFrame = pd.DataFrame()
    if tables:
        table = pa.concat_tables(tables, promote_options="permissive").to_pandas()
    if columns is not None:
        table = table.reindex(columns=pd.Index(columns))
    if columns is None or "sample" in columns:
        table = table.assign(
            sample=table.get("sample", pd.Series(index=table.index, dtype=float)).fillna(0).astype(int)
        )
    return table


def config(run: Run) -> dict[str, Any]:
    """Return the run's composed configuration; empty if it recorded none."""
    return dict(yaml.load(_text(run, "config.yaml"), _Loader) or {})


def manifest(run: Run) -> dict[str, Any]:
    """Return the manifest of the run's data set; empty if it recorded none."""
    return dict(json.loads(_text(run, "manifest.json") or "{}"))


def artifacts(run: Run, folder: str = "") -> list[str]:
    """Return the paths in a folder of the run's artifacts; none if there is no such folder."""
    # By the address: with a run's id, MLflow reads the run's thousand parameters each time.
    uri = f"{run.entity.info.artifact_uri.rstrip('/')}/{folder}"
    found = mlflow.artifacts.list_artifacts(artifact_uri=uri, tracking_uri=run.client.tracking_uri)
    return [f"{folder}/{Path(item.path).name}" if folder else str(item.path) for item in found]


def artifact(run: Run, path: str) -> Path:
    """Return the local path of the run's artifact `path`, a file or a folder; a remote one is downloaded."""
    # By its address: with a run's id, MLflow copies local files.
    uri = f"{run.entity.info.artifact_uri.rstrip('/')}/{path}"
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, tracking_uri=run.client.tracking_uri))


def _text(run: Run, path: str) -> str:
    if path not in artifacts(run):
        return ""
    return artifact(run, path).read_text(encoding="utf-8")


def _read(file: Path, columns: Sequence[str] | None) -> pa.Table:
    read = pq.ParquetFile(file)
    there = read.schema_arrow.names
    present = None if columns is None else [name for name in columns if name in there]
    return read.read(columns=present, use_threads=False)  # a step's rows are too few for threads
