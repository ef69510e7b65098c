"""The reward's variance over a run's steps, divided between guidelines and chance, in words."""

from __future__ import annotations

import math

import pandas as pd

from guidelines_core.reward.signal import Signal, signal_of_steps

METRICS = ("signal/between_guidelines", "signal/within_guideline", "signal/samples")
WANTED = 0.5
"""The share of the reward's variance by guidelines below which chance dominates."""


def signal_of(history: pd.DataFrame) -> Signal | None:
    """Return the mean variances of a run's steps (columns `METRICS`), None if it wrote one solution a guideline."""
    if not set(METRICS) <= set(history.columns):
        return None
    return signal_of_steps(history[list(METRICS)].dropna().to_dict("records"))


def in_words(found: Signal) -> str:
    """Return what the variances mean for learning, and the k that helps if chance dominates."""
    shared = (
        f"The guideline explains {max(0.0, found.share):.0%} of the reward's variance within a group at "
        f"guidelines.solver.samples={found.samples}; the variance between guidelines is {found.between:.3f}, between "
        f"solutions to one guideline {found.within:.3f}."
    )
    if math.isnan(found.share) or found.share >= WANTED:
        return shared
    needed = found.samples_for(WANTED)
    if math.isinf(needed):
        return f"{shared} No difference between guidelines is seen: more samples do not help, other guidelines might."
    return (
        f"{shared} The solver's own noise is the larger part: guidelines.solver.samples={math.ceil(needed)} would make "
        f"the guideline explain {WANTED:.0%}."
    )
