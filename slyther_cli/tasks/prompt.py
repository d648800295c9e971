"""The voice to speak in: a recording of it with what is said there, or the model's own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from slyther_cli.audio.discover import shown
from slyther_cli.audio.reader import AudioReader
from slyther_cli.checkpoints.voice import Voice, read_voice
from slyther_cli.errors import InputError, ModelError
from slyther_cli.models.codec import Codec
from slyther_cli.models.vall_m import VallM, frames_of
from slyther_cli.text.phonemes import spell

SHORTEST, LONGEST, TAKEN = 1.0, 30.0, 10.0
"""Seconds of a prompt: at least, at most where its text is given, and what is taken of a longer one."""
LEVEL_DB = -25.0
SILENT = 1e-4


def own_voice(folder: Path, model: VallM) -> Voice | None:
    """The voice that comes with the model."""
    c = model.config
    return read_voice(folder, c.n_symbols, c.n_codebooks, c.codebook_size, model.aligned)


def voice_of(
    prompt: str | os.PathLike[str], text: str | None, model: VallM, codec: Codec, device: str
) -> tuple[Voice, list[str]]:
    """The voice of a recording, and notes. Without ``text`` our own recogniser writes down what is said.

    Raises :class:`InputError`: unreadable, shorter than a second, silent, too long, nothing said in it;
    :class:`ModelError`: the recogniser is not on this machine.
    """
    samples, name, notes = _samples(prompt, codec.sample_rate, cut=text is None)
    if text is None:
        text = _heard(samples, codec.sample_rate, device)
        notes.append(f"the prompt says: {text}")
    symbols = torch.tensor(spell(text, model.config.alphabet).symbols, dtype=torch.int64)
    if not len(symbols):
        raise InputError(f"{name}: no words to the prompt: give what is said in it with --prompt-text")
    codes = codec.encode(torch.from_numpy(samples)[None].to(device))[0]
    durations = None
    if model.aligned:
        durations = _spread_over(symbols.to(device), codes.shape[1], model)
        notes.append("the times of the prompt's sounds are estimated from its text")
    return Voice(symbols, codes, durations), notes


def _samples(prompt: str | os.PathLike[str], rate: int, cut: bool) -> tuple[np.ndarray, str, list[str]]:
    notes: list[str] = []
    with AudioReader(prompt, rate=rate) as reader:
        name = shown(str(prompt))
        taken, most = [], (TAKEN if cut else LONGEST) * rate
        count = 0
        for block in reader.blocks(rate):
            taken.append(block)
            count += len(block)
            if count > most:
                break
    samples = np.concatenate(taken)
    if count > most:
        if not cut:
            raise InputError(f"{name}: a prompt has {LONGEST:.0f} s at most: cut it, and its text")
        samples = samples[: int(most)]
        notes.append(f"of the prompt the first {TAKEN:.0f} s are taken")
    loud = np.flatnonzero(np.abs(samples) > max(SILENT, 0.02 * float(np.abs(samples).max())))
    if not len(loud):
        raise InputError(f"{name}: the prompt is silent")
    samples = samples[max(0, loud[0] - rate // 20) : loud[-1] + rate // 10]
    if len(samples) < SHORTEST * rate:
        length = len(samples) / rate
        raise InputError(f"{name}: {length:.1f} s of voice are too short a prompt: 3 to 10 s are good")
    power = np.square(samples[np.abs(samples) > 0.01 * np.abs(samples).max()].astype(np.float64)).mean()
    scale = min(10 ** (LEVEL_DB / 20) / np.sqrt(power), 0.99 / np.abs(samples).max())
    return (samples * np.float32(scale)).astype(np.float32), name, notes


def _heard(samples: np.ndarray, rate: int, device: str) -> str:
    try:
        hear = recogniser(rate, device)
    except ModelError as error:
        raise ModelError(f"no recogniser to write down the prompt ({error}): give --prompt-text") from None
    text = hear(samples)
    if not text.strip():
        raise InputError("the recogniser hears no words in the prompt: give --prompt-text")
    return text


def recogniser(rate: int, device: str):
    """A function from samples at ``rate`` to words. Raises :class:`ModelError`: no recogniser here."""
    from slyther_cli.audio.resample import StreamResampler
    from slyther_cli.tasks.recogniser import Recogniser
    from slyther_cli.tasks.setup import choose_model
    from slyther_cli.tasks.transcription import DEFAULT_MODEL

    ready = Recogniser(choose_model("transcribe", None, DEFAULT_MODEL), device)

    def hear(samples: np.ndarray) -> str:
        if ready.rate != rate:
            resampler = StreamResampler(rate, ready.rate)
            samples = np.concatenate((resampler.push(samples), resampler.flush()))
        plan = ready.plan(len(samples))
        found = ready.segments(lambda: iter([samples]), plan)
        return " ".join(word.text for segment in found for word in segment.words)

    return hear


@torch.inference_mode()
def _spread_over(symbols: torch.Tensor, frames: int, model: VallM) -> torch.Tensor:
    """Durations in proportion to those that the model gives the text, ``frames`` together."""
    logs = model.log_durations(model.read(symbols[None]))[0]
    whole = float(torch.expm1(logs.double()).clamp(min=0).sum())
    durations = frames_of(logs, max(whole, 1e-3) / frames)
    durations[-1] += frames - durations.sum()
    if durations[-1] < 0:  # rounding, or a text of one symbol
        durations = torch.zeros_like(durations)
        durations[-1] = frames
    return durations
