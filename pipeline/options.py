"""Flags from the options' dataclasses: there is no second list of names, defaults or help texts."""
from __future__ import annotations

import argparse
import dataclasses
import re
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

Options = TypeVar("Options")


def add_flags(parser: argparse._ActionsContainer, *kinds: type[Any]) -> None:
    """One flag for each field of the options dataclasses; a field that several have is one flag."""
    fields = {field.name: (field, typing.get_type_hints(kind)[field.name])
              for kind in kinds for field in dataclasses.fields(kind)}
    for field, hint in fields.values():
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", dest=field.name, default=field.default, type=_checked(_plain(hint), field),
            choices=field.metadata.get("choices"), help=field.metadata["help"],
            metavar=None if "choices" in field.metadata else field.metadata.get("metavar", _plain(hint).__name__.upper()))


def _checked(kind: type, field: dataclasses.Field[Any]) -> Callable[[str], Any]:
    """`kind` of a text, which must not lie outside the field's `least` and `most`, and look as its `matches` says."""
    least, most, matches = (field.metadata.get(name) for name in ("least", "most", "matches"))

    def read(text: str) -> Any:
        value = kind(text)
        if matches is not None and not re.fullmatch(matches, text):
            raise argparse.ArgumentTypeError(f"{text!r} is not {field.metadata['metavar']}")
        if (least is not None and value < least) or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"{text} is not {f'{least} or more' if most is None else f'{least} to {most}'}")
        return value

    read.__name__ = kind.__name__  # what argparse says of a text that is none
    return read


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
