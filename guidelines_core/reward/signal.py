"""The reward's variance, divided between guidelines and the solver's sampling."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Signal:
    """Variances of a solution's reward, which is 1 or 0, from k solutions to each guideline.

    Attributes:
        between: variance between the guidelines of a group, `s_b^2`, which GRPO learns from.
        within: variance between the solutions to one guideline, `s_w^2`: the solver's sampling noise.
        samples: k.
    """

    between: float
    within: float
    samples: int

    def metrics(self) -> dict[str, float]:
        """Return the step's metrics; `signal_of_steps` reads them back."""
        named = {
            "signal/between_guidelines": self.between,
            "signal/within_guideline": self.within,
            "signal/samples": float(self.samples),
        }
        return named if math.isnan(self.share) else {**named, "signal/guideline_share": self.share}

    @property
    def share(self) -> float:
        """Share of the reward's variance within a group that the guideline explains, `s_b^2 / (s_b^2 + s_w^2 / k)`.

        The reward is a mean of k solutions, so k divides the noise. Below 0 if chance made `between` negative; NaN
        where the rewards do not vary.
        """
        total = self.between + self.within / self.samples
        return self.between / total if total else float("nan")

    def samples_for(self, share: float) -> float:
        """Return the k at which guidelines explain `share` of the reward's variance; inf if there is none."""
        if self.between <= 0:
            return float("inf")
        return share / (1 - share) * self.within / self.between


def signal_of_steps(steps: Iterable[Mapping[str, float]]) -> Signal | None:
    """Return the mean variances of several steps' metrics, None where no step has them.

    Use the share of the mean variances: the mean of the steps' shares is biased.
    """
    found = [step for step in steps if "signal/within_guideline" in step]
    if not found:
        return None
    between, within = (fmean(step[f"signal/{name}"] for step in found) for name in
                       ("between_guidelines", "within_guideline"))  # fmt: skip
    return Signal(between, within, int(found[-1]["signal/samples"]))


def signal(rows: pd.DataFrame) -> Signal | None:
    """Return the variances of graded rows (columns of `GradedRow`); None without two solutions or two guidelines.

    One-way analysis of variance with random effects, guidelines within their groups, pooled over the groups (Searle,
    Casella and McCulloch, Variance Components, 1992, section 3.6). With `x_gij` the reward of solution j of k to
    guideline i of `n_g` in group g, and dots for means:

        MS_w = sum_gij (x_gij - x_gi.)^2 / (sum_g n_g (k - 1))
        MS_b = k sum_gi (x_gi. - x_g..)^2 / (sum_g (n_g - 1))
        s_w^2 = MS_w,  s_b^2 = (MS_b - MS_w) / k

    Both are unbiased, so `s_b^2` can be negative, and means over steps are valid. `x` is 0 for a guideline whose reward
    is 0 because it leaks. Guidelines with fewer solutions than others, and groups of one guideline, are left out.
    """
    earned = rows["acc"].where(rows["score"] > 0, 0.0)
    by_guideline = earned.groupby([rows["group"], rows["rollout"]])
    found = pd.DataFrame({"mean": by_guideline.mean(), "var": by_guideline.var(ddof=1), "k": by_guideline.size()})
    samples = int(found["k"].max()) if len(found) else 0
    found = found[found["k"] == samples]
    groups = found["mean"].groupby(level="group")
    found = found[groups.transform("size") > 1]
    if samples < 2 or found.empty:
        return None
    groups = found["mean"].groupby(level="group")
    freedom = len(found) - groups.ngroups
    within = float(found["var"].mean())
    between_means = float(np.square(found["mean"] - groups.transform("mean")).sum()) / freedom
    return Signal(between=between_means - within / samples, within=within, samples=samples)
