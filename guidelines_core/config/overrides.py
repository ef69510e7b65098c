"""Checks of overrides, `key=value`: each must name a key and have a value of its type."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from guidelines_core.paths import CONF


def override_findings(plain: DictConfig, overrides: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for every override that does not parse, names no key or has another type than the key."""
    for text in overrides:
        try:
            override: Override = OverridesParser.create().parse_override(text)
        except HydraException as error:
            yield f"{text!r} is no override: expected key=value ({str(error).splitlines()[0]}){_quoted(text)}"
            continue
        if override.is_sweep_override():
            yield f"{text!r} gives several values: expected one{_quoted(text)}"
            continue
        key = str(override.key_or_group)
        if override.is_add() or override.is_delete() or (CONF / key).is_dir():
            continue
        if _select(plain, key) is _ABSENT:
            near = difflib.get_close_matches(key, _leaves(plain), n=3, cutoff=0.6)
            hint = f"did you mean {' or '.join(near)}?" if near else "run with --dry-run to see every key"
            yield f"{key}={override.value()}: there is no such key; {hint} (+{key}=… adds a key that verl reads)"
            continue
        finding = _type_finding(key, override.value(), _select(plain, key))
        if finding:
            yield finding


def _quoted(text: str) -> str:
    """Return how to quote an override in a shell, as the end of a sentence.

    Needed where the value has characters of the override grammar: `=`, commas, brackets and others
    (`hydra.cc/docs/advanced/override_grammar`).
    """
    key, equals, value = text.partition("=")
    if not equals or not value or value[0] in "'\"[{":
        return ""
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    word = shlex.quote(f"{key}='{quoted}'")
    return f"; a value with such signs is quoted: {word}"


_ABSENT = object()


def _select(config: DictConfig, key: str) -> Any:
    """Return the value at `key`; `_ABSENT` if there is no such key, None for a required value without default."""
    parent_key, _, last = key.rpartition(".")
    try:
        parent = OmegaConf.select(config, parent_key) if parent_key else config
    except OmegaConfBaseException:
        return _ABSENT
    if not isinstance(parent, DictConfig) or last not in parent.keys():  # noqa: SIM118, a missing value is not `in`
        return _ABSENT
    return None if OmegaConf.is_missing(parent, last) else parent[last]


def _type_finding(key: str, value: Any, current: Any) -> str | None:
    """Return a sentence if `value` has another type than the key's `current` value, which is not None."""
    kinds: dict[type, tuple[tuple[type, ...], str]] = {
        bool: ((bool,), "true or false"),
        int: ((int,), "a whole number"),
        float: ((int, float), "a number"),
        str: ((str, int, float), "text"),
        DictConfig: ((dict,), "a mapping {key: value}"),
        ListConfig: ((list,), "a list [a,b]"),
    }
    if current is None or value is None or (isinstance(value, str) and "${" in value):
        return None
    accepted, expected = kinds[type(current)]
    if isinstance(value, accepted) and (isinstance(value, bool) == isinstance(current, bool)):
        return None
    return f"{key}={value}: expected {expected}, like its present value {current}"


def _leaves(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of every value."""
    for key in config:
        node = None if OmegaConf.is_missing(config, key) else config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none():
            yield from _leaves(node, f"{prefix}{key!s}.")
        else:
            yield f"{prefix}{key!s}"
