"""The voice of a recording, with what is said there, to speak in."""

from __future__ import annotations

import math
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slyther_cli.audio.discover import shown
from slyther_cli.audio.level import at_level
from slyther_cli.audio.reader import AudioReader
from slyther_cli.audio.resample import resampled
from slyther_cli.english.phonemes import MARKS, spell
from slyther_cli.english.pronunciations import Pronunciations
from slyther_cli.errors import InputError, ModelError
from slyther_cli.models.codec import Codec
from slyther_cli.models.vall_m import VallM, frames_of
from slyther_cli.models.vall_sampling import Voice

SHORTEST, LONGEST, TAKEN = 1.0, 30.0, 10.0
"""Seconds of a prompt: at least, at most where its text is given, and what is taken of a longer one."""
LEVEL_DB = -25.0
PEAK = 12 * 10 ** (LEVEL_DB / 20)  # at that level; above what speech reaches
PAUSE = 0.08  # seconds between words; less is where one ends and the next begins


def voice_of(
    prompt: str | os.PathLike[str],
    text: str | None,
    model: VallM,
    codec: Codec,
    device: str,
    lexicon: Pronunciations | None = None,
) -> tuple[Voice, list[str]]:
    """The voice of a recording, and notes. Without ``text`` our own recogniser writes down what is said; it
    also tells when, for models that ask.

    Raises :class:`InputError`: unreadable, shorter than a second, silent, too long, nothing said in it;
    :class:`ModelError`: the recogniser is not on this machine.
    """
    samples, name, notes = _samples(prompt, codec.sample_rate, cut=text is None)
    if text is None:
        text = _transcribe(samples, codec.sample_rate, device)
        notes.append(f"the prompt says: {text}")
    spelling = spell(text, model.config.alphabet, lexicon)
    symbols = torch.tensor(spelling.symbols, dtype=torch.int64)
    if not len(symbols):
        raise InputError(f"{name}: no words to the prompt: give what is said in it with --prompt-text")
    heard = torch.from_numpy(samples)[None].to(device)
    codes = codec.encode(heard, model.config.n_codebooks)[0]
    durations = None
    if model.aligned:
        logs = _log_durations(symbols.to(device), model)
        try:
            times = _word_times(samples, codec.sample_rate, spelling.words, device)
            durations = _between(symbols.tolist(), logs, times, codes.shape[1], codec.frame_rate)
        except (InputError, ModelError, ValueError) as error:
            durations = _shared_out(logs, codes.shape[1])
            notes.append(f"when the prompt's words are said is guessed from its text alone: {error}")
    return Voice(symbols, codes, durations), notes


def _samples(prompt: str | os.PathLike[str], rate: int, cut: bool) -> tuple[np.ndarray, str, list[str]]:
    notes: list[str] = []
    with AudioReader(prompt, rate=rate) as reader:
        reader.settle()
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
    samples, level = at_level(samples, rate, LEVEL_DB)
    if not level:
        raise InputError(f"{name}: the prompt is silent")
    peak = min(float(np.abs(samples).max()), PEAK)
    samples = samples.clip(-peak, peak)
    loud = np.flatnonzero(np.abs(samples) > 0.02 * peak)
    samples = samples[max(0, loud[0] - rate // 20) : loud[-1] + rate // 10]
    if len(samples) < SHORTEST * rate:
        length = len(samples) / rate
        raise InputError(f"{name}: {length:.1f} s of voice are too short a prompt: 3 to 10 s are good")
    power = np.square(samples[np.abs(samples) > 0.01 * peak].astype(np.float64)).mean()
    scale = min(10 ** (LEVEL_DB / 20) / np.sqrt(power), 0.99 / peak)
    return (samples * np.float32(scale)).astype(np.float32), name, notes


def _transcribe(samples: np.ndarray, rate: int, device: str) -> str:
    try:
        recognise = recogniser(rate, device)
    except ModelError as error:
        raise ModelError(f"no recogniser to write down the prompt ({error}): give --prompt-text") from None
    text = recognise(samples)
    if not text.strip():
        raise InputError("the recogniser hears no words in the prompt: give --prompt-text")
    return text


def recogniser(rate: int, device: str):
    """A function from samples at ``rate`` to words. Raises :class:`ModelError`: no recogniser here."""
    ready = _recogniser(device)

    def recognise(samples: np.ndarray) -> str:
        samples = resampled(samples, rate, ready.rate)
        plan = ready.plan(len(samples))
        found = ready.segments(lambda: iter([samples]), plan)
        return " ".join(word.text for segment in found for word in segment.words)

    return recognise


def fitting(rate: int, device: str):
    """A function from samples at ``rate`` and words to how well they fit, see ``decode.align.fit``. Raises
    :class:`ModelError`: no recogniser here."""
    from slyther_cli.decode.align import fit

    ready = _recogniser(device)

    def fits(samples: np.ndarray, words: str) -> float:
        try:
            tokens = ready.tokenizer.encode(ready.tokenizer.normalise(words))
        except ValueError:  # its alphabet lacks a letter
            return -math.inf
        return fit(ready.posteriors(resampled(samples, rate, ready.rate)), tokens)

    return fits


def _recogniser(device: str) -> Any:
    from slyther_cli.jobs.setup import choose_model
    from slyther_cli.transcription.options import DEFAULT_MODEL

    return _loaded(choose_model("transcribe", None, DEFAULT_MODEL).path, device)


@lru_cache(maxsize=1)
def _loaded(folder: Path, device: str) -> Any:
    """A prompt and the speech check ask for it up to three times, every example of an evaluation again."""
    from slyther_cli.checkpoints.config import read_config
    from slyther_cli.transcription.recogniser import Recogniser

    return Recogniser(read_config(folder), device)


def _word_times(samples: np.ndarray, rate: int, words: str, device: str) -> list[tuple[float, float]]:
    """Start and end of each of ``words``, as a spelling has them, in seconds, by CTC alignment.

    Raises InputError (too short for its text), ModelError (no recogniser), ValueError (its alphabet lacks a
    letter)."""
    from slyther_cli.decode.align import align

    ready = _recogniser(device)
    plain = words.translate(dict.fromkeys(map(ord, MARKS))).split()
    tokens = ready.tokenizer.encode(ready.tokenizer.normalise(" ".join(plain)))
    log_probs = ready.posteriors(resampled(samples, rate, ready.rate))
    stream = ready.word_stream()
    found = [*stream.push(align(log_probs, tokens)), *stream.flush()]
    if len(found) != len(plain):
        raise ValueError("its words are not those of the recogniser")
    return [(word.start / ready.rate, word.end / ready.rate) for word in found]


@torch.inference_mode()
def _log_durations(symbols: torch.Tensor, model: VallM) -> torch.Tensor:
    return model.log_durations(model.read(symbols[None]))[0]


def _between(
    symbols: list[int], logs: torch.Tensor, times: list[tuple[float, float]], frames: int, rate: float
) -> torch.Tensor:
    """Frames of every symbol, ``frames`` together: a word's in proportion to what the model gives them, what
    lies between words to the blank or mark there, unless it is too short to be a pause."""
    silent = [s <= len(MARKS) + 1 for s in symbols]
    edges = [round(t * rate) for pair in times for t in pair]
    for i in range(1, len(edges) - 1, 2):
        if edges[i + 1] - edges[i] < PAUSE * rate:
            edges[i] = edges[i + 1] = (edges[i] + edges[i + 1]) // 2
    cuts = np.maximum.accumulate(np.clip([0, *edges, frames], 0, frames)).tolist()
    out = torch.zeros(len(symbols), dtype=torch.int64)
    groups: list[list[int]] = []  # silence, word, silence, word ..
    for i, quiet in enumerate(silent):
        if not groups or quiet != silent[i - 1]:
            groups.append([])
        groups[-1].append(i)
    if len(groups) not in (len(cuts) - 1, len(cuts) - 2) or not silent[0]:
        raise ValueError("its words are not those of the spelling")
    if len(groups) == len(cuts) - 2:  # no mark at the end
        cuts[-2:] = [frames]
    for group, start, end in zip(groups, cuts, cuts[1:], strict=False):
        out[group] = _shared_out(logs[group], end - start).cpu()
    return out.to(logs.device)


def _shared_out(logs: torch.Tensor, frames: int) -> torch.Tensor:
    """``frames`` in proportion to the durations that the model gives."""
    whole = float(torch.expm1(logs.double()).clamp(min=0).sum())
    durations = frames_of(logs, max(whole, 1e-3) / max(frames, 1e-3))
    durations[-1] += frames - durations.sum()
    if durations[-1] < 0:  # rounding, or a text of one symbol
        durations = torch.zeros_like(durations)
        durations[-1] = frames
    return durations
