"""Scoring a voice: is it understood, does it sound like the prompt, does it keep a speaker's pace?

Each sentence is that of a recording whose words are known. Beside the model speak espeak-ng and flite, where
they are installed; and the recording itself is heard, as it is and through the codec, which is the ceiling.
Understood: word error rate of PocketSphinx or Whisper, independent recognisers, at 16 kHz. Sound: the opinion
that DistillMOS predicts. Like: cosine of Resemblyzer's speaker embeddings with the prompt (Wan et al. 2018).
Pace: words a second, pauses included.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slyther_cli.english.normalise import normalise
from slyther_cli.english.phonemes import spell
from slyther_cli.errors import InputError, UsageError
from slyther_cli.models.codec import Codec
from slyther_cli.models.vall_sampling import Sampling, Voicing
from slyther_cli.research.evaluation.metrics import bootstrap_interval, edits
from slyther_cli.research.evaluation.programs import Program
from slyther_cli.research.training.codec_dataset import at_level
from slyther_cli.research.training.data import read_mono, read_table
from slyther_cli.research.training.synthetic import VOICES
from slyther_cli.research.training.synthetic import speak as other_speak
from slyther_cli.synthesis.prompt import voice_of
from slyther_cli.synthesis.voice_matching import equaliser_for

HEARD_RATE = 16_000
OTHERS = {"espeak-ng": "espeak-ng:en-us", "flite": "flite:slt"}
SYSTEMS = ("recording", "codec", "model", *OTHERS)
Recognise = Callable[[np.ndarray], str]
Embed = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Example:
    """A recording with its words, and, if asked for, another one of the same speaker as a prompt."""

    path: Path
    text: str
    speaker: str
    prompt: Path | None = None
    prompt_text: str = ""


def choose_examples(
    manifests: Sequence[Path],
    split: str,
    count: int,
    seed: int,
    prompts: bool,
    words: tuple[int, int] = (4, 25),
) -> list[Example]:
    """``count`` sentences of ``words`` words, drawn by ``seed``. With ``prompts``, of speakers with another
    recording of 2 to 12 s. Raises :class:`InputError` when there are none."""
    rows = [
        (m.resolve().parent / r["path"], r)
        for m in manifests
        for r in read_table(m, ("path", "speaker", "split"))
        if r["split"] == split and r.get("transcript", "").strip()
    ]
    good = [(p, r) for p, r in rows if words[0] <= len(normalise(r["transcript"]).text.split()) <= words[1]]
    rng = np.random.default_rng(seed)
    out = []
    for i in rng.permutation(len(good)):
        path, row = good[i]
        prompt: tuple[Path | None, str] = (None, "")
        if prompts:
            others = [
                (p, r["transcript"])
                for p, r in rows
                if r["speaker"] == row["speaker"] and p != path and 2 <= float(r.get("duration_s") or 5) <= 12
            ]
            if not others:
                continue
            prompt = others[rng.integers(len(others))]
        out.append(Example(path, row["transcript"], row["speaker"], *prompt))
        if len(out) == count:
            break
    if not out:
        raise InputError(f"no fitting sentence of split {split!r} in {', '.join(map(str, manifests))}")
    return out


class Speaker:
    """The systems by name: an example -> samples at ``rate``. ``programs``: others, by their names."""

    def __init__(
        self,
        network: Any,
        codec: Codec,
        own: Any,
        sampling: Sampling,
        seed: int,
        device: str,
        programs: Mapping[str, Program] = {},
    ):
        self.programs = programs
        self.network, self.codec, self.own, self.device = network, codec, own, device
        self.sampling, self.seed, self.rate = sampling, seed, codec.sample_rate

    def prompt(self, example: Example) -> np.ndarray | None:
        """What the model is to sound like, through the codec."""
        if example.prompt is not None:
            return self._through(at_level(read_mono(example.prompt, self.rate)))
        if self.own is None:
            return None
        return self.codec.decode(self.own.codes[None].to(self.device))[0].cpu().numpy()

    def say(self, system: str, example: Example) -> tuple[np.ndarray, dict[str, float]]:
        """The samples, and what they took: ``cpu`` seconds, of programs also their peak ``memory`` in bytes;
        nothing of what is not measured."""
        if system in self.programs:
            sound, cpu, memory = self.programs[system].say(example.text, self.rate)
            return at_level(sound), {"cpu": cpu, "memory": memory}
        began = time.process_time()
        sound = self._said(system, example)
        spent = time.process_time() - began
        return sound, {"cpu": spent} if system in ("model", "codec") else {}

    def _said(self, system: str, example: Example) -> np.ndarray:
        if system == "model":
            return self._model(example)
        if system in OTHERS:
            import soxr

            spoken = other_speak(VOICES[OTHERS[system]], normalise(example.text).text)
            return at_level(soxr.resample(spoken.samples, spoken.rate, self.rate))
        recording = at_level(read_mono(example.path, self.rate))
        return self._through(recording) if system == "codec" else recording

    def _through(self, samples: np.ndarray) -> np.ndarray:
        codes = self.codec.encode(torch.from_numpy(samples)[None].to(self.device))
        return self.codec.decode(codes)[0].float().cpu().numpy()

    @torch.inference_mode()
    def _model(self, example: Example) -> np.ndarray:
        voice = self.own
        if example.prompt is not None:
            voice, _ = voice_of(example.prompt, example.prompt_text, self.network, self.codec, self.device)
        voicing = Voicing(self.network, voice, self.sampling)
        symbols = torch.tensor(spell(example.text, self.network.config.alphabet).symbols)
        said = voicing.say(symbols, voicing.start(), self.seed)
        sound = self.codec.decode(said.codes[None])[0].float().cpu().numpy()
        colour = equaliser_for(voicing, self.codec, self.seed) if example.prompt is not None else None
        return np.concatenate((colour.push(sound), colour.flush())) if colour else sound


def evaluate_speech(
    speaker: Speaker,
    examples: Sequence[Example],
    recognise: Recognise,
    embed: Embed | None,
    opinion: Callable[[np.ndarray], float] | None = None,
    systems: Sequence[str] = SYSTEMS,
    seed: int = 0,
    on_event: Callable[[dict], None] = lambda event: None,
) -> dict[str, Any]:
    """A row a system: ``wer`` in percent with ``low`` and ``high`` (95 % bootstrap over sentences), ``pace``,
    ``mos``, ``cpu`` seconds a second (of the model, the codec and programs, which start anew each time),
    ``memory`` (of programs, the most in bytes), ``similarity`` to the prompt and
    ``nearer``, the share of examples whose prompt is nearer than another speaker's (with prompts only).
    ``recognise``, ``embed`` and ``opinion`` take samples at 16 kHz."""
    import soxr

    here = [s for s in systems if s not in OTHERS or shutil.which(s)]
    unknown = [s for s in here if s not in SYSTEMS]
    here += speaker.programs
    if unknown:
        raise UsageError(f"unknown system {unknown[0]!r}; known: {', '.join(SYSTEMS)}")

    def at_16k(samples: np.ndarray) -> np.ndarray:
        return samples if speaker.rate == HEARD_RATE else soxr.resample(samples, speaker.rate, HEARD_RATE)

    targets: list[np.ndarray | None] = []
    for example in examples:
        sound = speaker.prompt(example) if embed else None
        targets.append(None if sound is None or embed is None else embed(at_16k(sound)))
    rows: dict[str, list[dict[str, float]]] = {system: [] for system in here}
    for index, example in enumerate(examples):
        wanted = words_of(example.text)
        for system in here:
            sound, spent = speaker.say(system, example)
            heard = recognise(at_16k(sound)) if len(sound) else ""
            score: dict[str, float] = {
                "errors": edits(wanted, words_of(heard)),
                "words": len(wanted),
                "seconds": len(sound) / speaker.rate,
                **spent,
            }
            if opinion is not None and len(sound) > speaker.rate // 2:
                score["mos"] = opinion(at_16k(sound))
            if embed and targets[index] is not None and len(sound) > speaker.rate // 2:
                own = embed(at_16k(sound))
                score["similarity"] = float(own @ targets[index])
                other = targets[_someone_else(examples, index)]
                if example.prompt is not None and other is not None and other is not targets[index]:
                    score["nearer"] = float(score["similarity"] > float(own @ other))
            rows[system].append(score)
            on_event(
                {"event": "example", "index": index + 1, "examples": len(examples), "system": system,
                 "text": example.text, "heard": heard, **score}
            )  # fmt: skip
    return {system: _summary(scores, seed) for system, scores in rows.items()}


def _someone_else(examples: Sequence[Example], index: int) -> int:
    """The next example of another speaker; ``index`` itself where there is none."""
    count = len(examples)
    later = ((index + k) % count for k in range(1, count))
    return next((i for i in later if examples[i].speaker != examples[index].speaker), index)


def words_of(text: str) -> list[str]:
    """Words as they are said, without marks: numbers in words, small letters."""
    return "".join(c for c in normalise(text, letter_a="a").text if c.isalpha() or c in "' ").split()


def _summary(scores: list[dict[str, float]], seed: int) -> dict[str, Any]:
    words = sum(s["words"] for s in scores)
    share = [100 * s["errors"] * len(scores) / words for s in scores]  # their mean is the rate over all words
    low, high = bootstrap_interval(share, seed)
    out: dict[str, Any] = {
        "sentences": len(scores),
        "wer": 100 * sum(s["errors"] for s in scores) / words,
        "low": low,
        "high": high,
        "pace": words / max(1e-9, sum(s["seconds"] for s in scores)),
    }
    for key in ("mos", "similarity", "nearer"):
        values = [s[key] for s in scores if key in s]
        out[key] = float(np.mean(values)) if values else None
    spent = sum(s.get("cpu", 0.0) for s in scores)
    out["cpu"] = spent / max(1e-9, sum(s["seconds"] for s in scores)) if spent else None
    out["memory"] = max((int(s["memory"]) for s in scores if "memory" in s), default=None)
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in out.items()}


def resemblyzer() -> tuple[Embed | None, str]:
    """Resemblyzer's speaker embedding of samples at 16 kHz, of length 1; or None, and why."""
    try:
        from resemblyzer import VoiceEncoder, preprocess_wav
    except ImportError as error:
        # its webrtcvad imports pkg_resources, which setuptools has up to version 80
        return None, f"{error}: pip install Resemblyzer 'setuptools<81'"
    encoder = VoiceEncoder("cpu", verbose=False)

    def embed(samples: np.ndarray) -> np.ndarray:
        return encoder.embed_utterance(preprocess_wav(samples.astype(np.float32), HEARD_RATE))

    return embed, ""
