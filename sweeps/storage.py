"""Opens Optuna's database, which queues a trial again if its worker is lost."""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import Study
from optuna.trial import FrozenTrial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from guidelines_core.config.compose import ConfigError
from guidelines_core.paths import ROOT
from guidelines_core.runs.stores import StoreFailure, masked, unreachable
from sweeps.attributes import ATTEMPT, POINT_SUGGESTED, REFERENCE

DATABASE = ROOT / "optuna.db"
HEARTBEAT_S, GRACE_S = 5, 20
"""Seconds between a trial's heartbeats, and seconds without one after which the trial counts as lost."""

# Optuna marks heartbeats and their callback as experimental.
warnings.filterwarnings("ignore", category=ExperimentalWarning)


class Requeue(RetryHeartbeatStaleTrialCallback):
    """Queues a lost trial's point again, once, without the attributes that the lost trial had set."""

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Queue the point of `trial`, which Optuna has marked as failed; an incomplete point is left to the sampler."""
        if POINT_SUGGESTED not in trial.user_attrs:
            trial.params, trial.distributions = {}, {}
        trial.user_attrs = {key: value for key, value in trial.user_attrs.items() if key in (REFERENCE, ATTEMPT)}
        attributes = ("failed_trial", "retry_history", "fixed_params")
        trial.system_attrs = {key: value for key, value in trial.system_attrs.items() if key in attributes}
        super().__call__(study, trial)


def refuse_unreachable(given: str | None) -> None:
    """Raise a `ConfigError` if the database that `--storage` names cannot be reached or read."""
    url = given or f"sqlite:///{DATABASE}"
    failure = StoreFailure("it is a web address") if url.startswith("http") else unreachable(url)
    if failure:
        remedy = (
            "give a database's address, such as postgresql://USER:PASSWORD@HOST/DATABASE, or leave it out for "
            "optuna.db at the repository's root"
        )
        raise ConfigError(f"--storage {masked(url)}: {failure.or_else(remedy)}")


def open_storage(given: str | None) -> RDBStorage:
    """Return the storage at a database's address, by default SQLite at the repository's root.

    A trial whose worker has been silent for `GRACE_S` seconds is failed and queued again, once.

    Raises:
        ConfigError: Optuna cannot use the database.
    """
    url = make_url(given or f"sqlite:///{DATABASE}")
    if url.drivername == "postgresql":
        # The default driver of SQLAlchemy 2.1 differs from that of 2.0.
        url = url.set(drivername="postgresql+psycopg2")
    wait = {"connect_args": {"timeout": 60}} if url.drivername.startswith("sqlite") else {}
    try:
        return RDBStorage(
            url.render_as_string(hide_password=False),
            engine_kwargs={"pool_pre_ping": True, **wait},
            heartbeat_interval=HEARTBEAT_S,
            grace_period=GRACE_S,
            heartbeat_stale_trial_callback=Requeue(max_retry=1),
        )
    except (RuntimeError, SQLAlchemyError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--storage {url.render_as_string()}: Optuna cannot use it: {reason}") from error
