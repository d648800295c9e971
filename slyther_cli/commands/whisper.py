"""What those write who come from whisper, whisper.cpp or faster-whisper: options that mean nothing here are
left out and told, others are understood or get a hint."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from typer.core import TyperCommand

from slyther_cli.errors import ModelError, UsageError

LEFT_OUT = "slyther.left_out"  # in the context's meta: the options that were left out
BOOLEAN = """
fp16 condition_on_previous_text carry_initial_prompt vad_filter batched without_timestamps
"""
VALUED = """
temperature temperature_increment_on_fallback best_of patience length_penalty repetition_penalty
no_repeat_ngram_size suppress_tokens suppress_blank initial_prompt prefix
compression_ratio_threshold logprob_threshold no_speech_threshold hallucination_silence_threshold
prepend_punctuations append_punctuations clip_timestamps model_dir compute_type batch_size chunk_length
vad_threshold vad_min_speech_duration_ms vad_max_speech_duration_s vad_min_silence_duration_ms
"""
MODEL = re.compile(r"(distil-)?(tiny|base|small|medium|large|turbo)(-v[1-3](\.5)?)?(-turbo)?(\.en)?")
ATTACHED = re.compile(r"-o(txt|srt|vtt|tsv|json|all)")  # whisper.cpp's: here the folder srt


class Sifted(NamedTuple):
    """Arguments without what means nothing here, and the options that were that."""

    arguments: list[str]
    left_out: list[str]


class WhisperCommand(TyperCommand):
    """A command that understands whisper's arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        arguments, ctx.meta[LEFT_OUT] = sift(args)
        return super().parse_args(ctx, arguments)


def sift(arguments: Sequence[str]) -> Sifted:
    """Raises UsageError for -osrt, which would be the folder srt."""
    kept: list[str] = []
    left_out: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return Sifted([*kept, argument, *rest], left_out)
        if found := ATTACHED.fullmatch(argument):
            raise UsageError(
                f"{argument}: did you mean -f {found[1]}? (the folder {found[1]} is -o {found[1]})"
            )
        name, equals, _ = argument.partition("=")
        key = name.removeprefix("--").replace("-", "_") if name.startswith("--") else ""
        truth = bool(rest) and not equals and rest[0].lower() in ("true", "false")
        if key in BOOLEAN.split() or key in VALUED.split():
            left_out.append(name)
            if truth or (key in VALUED.split() and not equals):
                del rest[:1]
        elif key == "verbose" and truth and not os.path.lexists(rest[0]):
            kept.append("-v" if rest.pop(0).lower() == "true" else "-q")
        else:
            kept.append(argument)
    return Sifted(kept, left_out)


def own_model(name: str | None) -> str | None:
    """The model to use for what was named: None, the default, for one of whisper's that is none of ours."""
    if name is None or MODEL.fullmatch(name) is None:
        return name
    from slyther_cli.checkpoints.places import resolve

    try:
        resolve(name, "transcribe")
    except ModelError:
        return None
    return name


def note(left_out: Sequence[str], model: str | None) -> str | None:
    """A sentence for the user, if there is something to say. ``model``: one of whisper's, not used."""
    parts = []
    if left_out:
        names = list(dict.fromkeys(left_out))
        parts.append(f"there is no {', '.join(names)}: ignored")
    if model is not None:
        parts.append(f"{model} is a model of whisper: slyther's own is used")
    return "; ".join(parts) or None
