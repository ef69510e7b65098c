"""Hydra's compose, a few times faster: the tests compose a few experiments with some hundred sets of overrides.

What takes long is to read and merge some thirty files and to parse references. The files are read by libyaml and merged
once for each experiment and layout, for all processes that share a folder; the values that are overridden are set on a
copy, as Hydra does it, by Hydra's own function. A reference is parsed once.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import omegaconf
import pytest
import yaml
from hydra import compose as hydra_compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, grammar_parser

from guidelines_core.config import compose as composition
from guidelines_core.digests import text_sha256

PARSERS = (omegaconf.base, omegaconf._utils)
"""OmegaConf's modules that parse references, by a function that they import."""


def compose_fast(patch: pytest.MonkeyPatch, shared: Path) -> None:
    """Have the project compose by `fast_compose`, with the folder `shared`, until `patch` is undone."""
    parse = lru_cache(maxsize=None)(grammar_parser.parse)
    for module in PARSERS:
        patch.setattr(module, "parse", parse)
    patch.setattr(yaml, "SafeLoader", yaml.CSafeLoader)
    patch.setattr(composition, "hydra_compose", partial(fast_compose, shared))


def compose_as_hydra_does(patch: pytest.MonkeyPatch) -> None:
    """Take `compose_fast` back until `patch` is undone."""
    for module in PARSERS:
        patch.setattr(module, "parse", grammar_parser.parse)
    patch.setattr(yaml, "SafeLoader", yaml.loader.SafeLoader)
    patch.setattr(composition, "hydra_compose", hydra_compose)


def fast_compose(shared: Path, name: str, overrides: Sequence[str] = (), **more: Any) -> DictConfig:
    """Return what `hydra.compose` does."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    values = [override for override in parsed if not more and _is_value(override)]
    others = tuple(override.input_line for override in parsed if override not in values)
    config: DictConfig = pickle.loads(_composed(shared, _files(), name, others, **more))
    ConfigLoaderImpl._apply_overrides_to_config(values, config)
    return config


def _is_value(override: Override) -> bool:
    """Say whether an override sets a value, and chooses no file."""
    key = override.key_or_group
    names_a_file = "/" in key or key.startswith("hydra.") or (_folder() / key).is_dir()
    return not names_a_file and override.package is None and not override.is_sweep_override()


@lru_cache(maxsize=64)
def _composed(shared: Path, files: object, name: str, overrides: tuple[str, ...], **more: Any) -> bytes:
    """Return a composed configuration, pickled, from which OmegaConf makes a copy sooner than from itself."""
    file = shared / f"{text_sha256(repr((files, name, overrides, more)))}.pickle"
    if not file.exists():
        making = file.with_suffix(f".{os.getpid()}")
        making.write_bytes(pickle.dumps(hydra_compose(name, overrides=list(overrides), **more)))
        making.replace(file)
    return file.read_bytes()


def _folder() -> Path:
    """Return the experiments' folder, which a test may have replaced."""
    return Path(vars(composition)["CONF"])


def _files() -> tuple[tuple[str, int, int], ...]:
    """Return what tells whether an experiment's files are what they were."""
    found = sorted(_folder().rglob("*.yaml"))
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in found)
