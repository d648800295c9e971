"""The options of a product, once: a frozen dataclass that the command and the Python call fill, the job
obeys, the journal of unfinished work depends on and the start event tells.

A product's dataclass derives from :class:`Options` (``BatchOptions`` for work on many recordings), gives
every option a default and a place in its docstring, and refuses values without a meaning in ``check``.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

SHAPES = {"shapes_result": True}
"""Metadata of a field that a result depends on, beside the recording and the model."""

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every product's options can do."""

    def check(self) -> None:
        """Raises UsageError on a value without a meaning, or on options that contradict each other."""

    def given(self) -> dict[str, Any]:
        """The options that are not at their default, as JSON can hold them."""
        return {f.name: plain(value) for f in fields(self) if (value := getattr(self, f.name)) != f.default}

    def shaping(self) -> dict[str, Any]:
        """The options that the result depends on: what unfinished work is gone on with must have the same."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.metadata.get("shapes_result")}


def plain(value: Any) -> Any:
    """The value as JSON can hold it: paths become texts."""
    if isinstance(value, Path):
        return os.fspath(value)
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def takes(options: type[Options]) -> Callable[[Function], Function]:
    """For a function that ends in ``**options``: the signature that it has for help() and editors names every
    option of that dataclass, with its type and default."""

    def signed(function: Function) -> Function:
        own = inspect.signature(function)
        named = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        there = {p.name for p in named}
        more = [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
            for f in fields(options)
            if f.name not in there
        ]
        function.__signature__ = own.replace(parameters=[*named, *more])  # type: ignore[attr-defined]
        return function

    return signed
