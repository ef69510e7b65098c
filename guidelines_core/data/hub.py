"""Data sets of the hub, by `ORGANIZATION/NAME`, or `ORGANIZATION/NAME:CONFIGURATION` if there are several."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from guidelines_core.data.problems import DatasetError

NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(:(?P<configuration>[\w.-]+))?")


def split(source: str) -> tuple[str, str | None] | None:
    """Return a source's name on the hub and its configuration (None if not given); None if it is not a hub id."""
    found = NAME.fullmatch(source)
    return (found["name"], found["configuration"]) if found else None


def chosen(name: str, configuration: str | None, there: Sequence[str]) -> str | None:
    """Return the configuration to read, of those that exist (`there`); None for a data set without configurations.

    Raises:
        DatasetError: the configuration does not exist, or there are several and none is named.
    """
    listed = ", ".join(f"{name}:{each}" for each in there)
    if configuration is not None and configuration not in there:
        raise DatasetError(f"source {name}:{configuration}: the data set has no such configuration: name {listed}")
    if configuration is None and len(there) > 1:
        raise DatasetError(
            f"source {name}: the data set has {len(there)} configurations, of which one is needed: {listed}"
        )
    return configuration or (there[0] if there else None)


def rows(source: str) -> Iterator[object]:
    """Yield the rows of a data set's training split.

    Raises:
        DatasetError: it cannot be read from the hub, or it has several configurations and none is named.
    """
    found = split(source)
    assert found is not None
    name, configuration = found
    try:
        import datasets  # type: ignore[import-untyped]

        wanted = chosen(name, configuration, datasets.get_dataset_config_names(name))
        yield from datasets.load_dataset(name, wanted, split="train", streaming=True)
    except DatasetError:
        raise
    except Exception as error:  # the hub's client raises many types of errors
        raise DatasetError(
            f"source {source} is no local file and cannot be read from the hub "
            f"({type(error).__name__}: {error}): check the name and the network, or name a local file"
        ) from error
