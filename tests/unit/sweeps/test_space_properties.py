"""For any point and any axis: what a point sets in the configuration, and what a space accepts."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from guidelines_core.config import layout
from guidelines_core.config.compose import ConfigError, compose, unresolved
from guidelines_core.hardware.shapes import gpus
from sweeps.axes import (
    BATCH,
    KINDS,
    LAYOUT,
    MICRO,
    MINI,
    RESPONSE,
    ROLLOUTS,
    TOKENS,
    UPDATES,
    Point,
    read_axes,
    value_findings,
    with_own_values,
)
from sweeps.candidates import distributions
from sweeps.keys import derived_keys, differences, largest_divisor, set_point
from sweeps.machine import Machine
from sweeps.space import Space

EXPERIMENT = "numinamath30k-3b-300steps-mathverify"
LAYOUTS = ("hybrid-3p1", "split-1p2p1")


@pytest.fixture(scope="module")
def bases() -> dict[str, DictConfig]:
    return {name: unresolved(EXPERIMENT, [f"layout={name}"]) for name in LAYOUTS}


@st.composite
def points(draw: st.DrawFn) -> Point:
    """A point whose batch divides by its updates."""
    updates = draw(st.integers(1, 8))
    point: Point = {BATCH: updates * draw(st.integers(1, 100)), ROLLOUTS: draw(st.integers(1, 16)), UPDATES: updates}
    if draw(st.booleans()):
        point[TOKENS] = draw(st.integers(1024, 65536))
    return point


@given(point=points(), name=st.sampled_from(LAYOUTS), micro=st.integers(1, 64))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_derived_keys_cut_a_batch_into_equal_parts(
    bases: dict[str, DictConfig], point: Point, name: str, micro: int
) -> None:
    config = bases[name]
    set_point(config, dict.fromkeys(MICRO, micro))
    found = derived_keys(config, point)
    assert found[MINI] * point[UPDATES] == point[BATCH]
    assert (found.get("trainer.v1.separate_async.parameter_sync_step") == point[UPDATES]) == layout.separate(config)
    if TOKENS in point:
        assert found["actor_rollout_ref.actor.use_dynamic_bsz"] is True
        assert not set(MICRO) & set(found)
        return
    workers = layout.training_gpus(config)
    for key, sequences in zip(MICRO, (found[MINI], point[BATCH], point[BATCH]), strict=True):
        share = sequences * point[ROLLOUTS] // workers
        assert 1 <= found[key] <= micro
        assert share % found[key] == 0
        assert not [size for size in range(found[key] + 1, micro + 1) if share % size == 0]


@given(number=st.integers(1, 10_000), most=st.integers(1, 200))
def test_the_largest_divisor_divides_and_none_is_larger(number: int, most: int) -> None:
    found = largest_divisor(number, most)
    assert number % found == 0
    assert [size for size in range(1, most + 1) if number % size == 0][-1] == found


@given(batch=st.sampled_from([12, 30, 60]), n=st.sampled_from([2, 4]), updates=st.sampled_from([1, 2]),
       response=st.sampled_from([512, 3072]), name=st.sampled_from(LAYOUTS))  # fmt: skip
@settings(max_examples=3)
def test_a_points_values_as_overrides_make_its_configuration(
    batch: int, n: int, updates: int, response: int, name: str
) -> None:
    axes = {BATCH: (12, 30, 60), ROLLOUTS: (2, 4), UPDATES: (1, 2), RESPONSE: (512, 3072), LAYOUT: LAYOUTS}
    space = Space(EXPERIMENT, (), axes, Machine(4, gpus()["H100"]))
    point = {BATCH: batch, ROLLOUTS: n, UPDATES: updates, RESPONSE: response, LAYOUT: name}
    overrides = [f"{key}={value}" for key, value in space.values(point).items()]
    assert differences(compose(EXPERIMENT, overrides), space.config(point)) == {}
    assert differences(space.config(point), compose(EXPERIMENT, overrides)) == {}


own_values = st.one_of(st.booleans(), st.integers(1, 500), st.floats(-10, 10), st.sampled_from(LAYOUTS))
scalars = st.one_of(st.booleans(), st.integers(-5, 500), st.floats(), st.text(max_size=5), st.none())
values = st.lists(st.one_of(scalars, st.lists(scalars, max_size=2)), min_size=1, max_size=5)
values_of_a_kind = st.one_of(
    values,
    *(st.lists(kind, min_size=1, max_size=5) for kind in (st.integers(1, 500), st.floats(-10, 10), st.booleans())),
)


@given(axis=st.sampled_from([BATCH, "some.key"]), given_values=values_of_a_kind, own=own_values)
def test_values_without_a_finding_make_an_axis(axis: str, given_values: list[Any], own: Any) -> None:
    if list(value_findings(axis, given_values, own)):
        return
    (made,) = with_own_values({axis: given_values}, {axis: own}).values()
    assert set(made) == {*given_values, own}
    assert len(made) == len(set(made))
    assert all(isinstance(value, KINDS[type(own)][0]) for value in made)
    if not isinstance(own, bool | str):
        assert list(made) == sorted(made)
    space = Space(EXPERIMENT, (), {axis: made}, Machine(4, gpus()["H100"]))
    distribution = distributions(space)[axis]
    assert all(distribution._contains(distribution.to_internal_repr(value)) for value in made)


spaces = st.dictionaries(st.sampled_from(["axes", "x"]), st.dictionaries(st.text(max_size=3), values))


@given(
    content=st.one_of(
        st.binary(max_size=40), st.text(max_size=40).map(str.encode), spaces.map(yaml.safe_dump).map(str.encode)
    )
)
def test_any_file_is_axes_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "space.yaml"
        file.write_bytes(content)
        try:
            axes = read_axes(file)
        except ConfigError as error:
            axes = {str(error): [error]}
    assert all(isinstance(axis, str) and axis_values for axis, axis_values in axes.items())


numbered = scalars.filter(lambda value: value == value)
"""Without NaN, which differs from itself."""


@given(st.dictionaries(st.sampled_from("abc"), st.one_of(numbered, st.dictionaries(st.sampled_from("de"), numbered))))
def test_a_configuration_differs_from_itself_in_nothing(read: dict[str, Any]) -> None:
    config = OmegaConf.create(read)
    other = config.copy()
    assert differences(config, other) == {}
    other.new = 1
    assert differences(config, other) == {"new": 1}
