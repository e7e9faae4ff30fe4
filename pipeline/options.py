"""Flags from the options' dataclasses: there is no second list of names, defaults or help texts."""
from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from typing import Any, TypeVar

Options = TypeVar("Options")


def add_flags(parser: argparse._ActionsContainer, *kinds: type[Any]) -> None:
    """One flag for each field of the options dataclasses; a field that several have is one flag."""
    fields = {field.name: (field, typing.get_type_hints(kind)[field.name])
              for kind in kinds for field in dataclasses.fields(kind)}
    for field, hint in fields.values():
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", dest=field.name, default=field.default, type=_plain(hint),
            choices=field.metadata.get("choices"), help=field.metadata["help"],
            metavar=None if "choices" in field.metadata else _plain(hint).__name__.upper())


def _plain(hint: Any) -> type:
    """int of `int` and of `int | None`."""
    if isinstance(hint, types.UnionType):
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return typing.cast(type, hint)


def of(kind: type[Options], values: argparse.Namespace) -> Options:
    """The options dataclass from parsed flags."""
    return kind(**{field.name: getattr(values, field.name) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]


def recorded(values: Any) -> dict[str, Any]:
    """An options dataclass as it is kept with what it made: without what changes no byte of it."""
    return {field.name: getattr(values, field.name) for field in dataclasses.fields(values)
            if field.metadata.get("recorded", True)}


def from_record(kind: type[Options], record: dict[str, Any]) -> Options:
    """The options dataclass from what was kept, whatever else was kept beside it."""
    return kind(**{field.name: record[field.name] for field in dataclasses.fields(kind)  # type: ignore[arg-type]
                   if field.name in record})
