"""Word error rates by length: Speech-Mamba's study (Gao and Chen 2024; papers.md 7.3, 7.4).

A set of joined recordings: a speaker's utterances in the order of their names are put one after the other,
without gaps, until the sum lies within the set's limits. An utterance that would overshoot discards what was
joined before it and begins anew; what is too short at a speaker's end is dropped. So an utterance is in one
recording at most, and sets of other lengths hold other words.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slyther_cli.decode.alphabets import load_tokenizer
from slyther_cli.decode.ctc import GreedyDecoder
from slyther_cli.decode.joint import JointOptions, has_ends, joint_search
from slyther_cli.errors import InputError, ModelError, OutputError, UsageError
from slyther_cli.research.evaluation.recognition import (
    Item,
    evaluate_items,
    read_items,
    seconds_of,
)

Row = dict[str, Any]
SINGLE = "single"
SETS: dict[str, tuple[float, float]] = {
    "60": (45.0, 60.0),  # the papers' -L sets
    "70": (60.0, 70.0),  # the limits of these are our choice
    "80": (70.0, 80.0),
    "90": (80.0, 90.0),
    "100": (90.0, 100.0),
}


@dataclass(frozen=True)
class LengthSet:
    """``name``: "single", or the most seconds. ``dropped``: seconds of speech that are in no recording."""

    name: str
    items: list[Item]
    seconds: float
    dropped: float


def make_sets(
    manifest: Path, split: str, names: Sequence[str], examples: int | None = None
) -> list[LengthSet]:
    """The sets of these names, from the split's utterances with a text; at most ``examples`` recordings each,
    spread evenly.

    Raises UsageError: an unknown name. InputError: no speech, or a set that holds no recording.
    """
    wrong = [name for name in names if name not in (SINGLE, *SETS)]
    if wrong or not names:
        trouble = f"unknown set {', '.join(wrong)}" if wrong else "no set is named"
        raise UsageError(f"{trouble}; known: {SINGLE}, {', '.join(SETS)}")
    items = read_items(manifest, split)
    lengths = [seconds_of(item.paths[0]) for item in items]
    found = []
    for name in dict.fromkeys(names):
        groups = [[i] for i in range(len(items))]
        if name != SINGLE:
            groups = joined([item.speaker for item in items], lengths, *SETS[name])
        if not groups:
            raise InputError(f"{manifest}: no speaker of split {split!r} has enough speech for set {name}")
        dropped = sum(lengths) - sum(lengths[i] for group in groups for i in group)
        if examples is not None and examples < len(groups):
            groups = [groups[i * len(groups) // examples] for i in range(examples)]
        chosen = [
            Item(
                tuple(items[i].paths[0] for i in group),
                " ".join(items[i].text for i in group),
                items[group[0]].speaker,
            )
            for group in groups
        ]
        seconds = sum(lengths[i] for group in groups for i in group)
        found.append(LengthSet(name, chosen, seconds, dropped))
    return found


def joined(speakers: Sequence[str], seconds: Sequence[float], low: float, high: float) -> list[list[int]]:
    """Groups of neighbours whose sum lies within ``low`` .. ``high`` seconds, by the rule above. Speakers'
    utterances stand together and in order."""
    groups: list[list[int]] = []
    held: list[int] = []
    total, before = 0.0, None
    for i, (speaker, length) in enumerate(zip(speakers, seconds, strict=True)):
        if speaker != before or total + length > high:
            held, total = [], 0.0
        before = speaker
        held, total = [*held, i], total + length
        if low <= total <= high:
            groups.append(held)
            held, total = [], 0.0
    return groups


class Hears:
    """Any recogniser, in one pass over the whole recording; greedy by its CTC head, or jointly with its
    decoder in a beam, without a language model.

    Raises ModelError: no recogniser, or its alphabet does not fit. UsageError: joint without a decoder.
    """

    def __init__(self, name: str, decode: str = "greedy", beam: int = 10, device: str = "cpu"):
        from slyther_cli.checkpoints import store

        if decode not in ("greedy", "joint"):
            raise UsageError(f"the decoding {decode!r} is not known: greedy, joint")
        model: Any
        model, about = store.load(name, expect_task="transcribe")
        assert about.path is not None
        self.model = model.to(device)
        self.name, self.rate, self.device = about.name, int(model.config.sample_rate), device
        self.parameters = sum(p.numel() for p in model.parameters())
        self.tokenizer = load_tokenizer(about.path)
        if self.tokenizer.size != model.config.vocab:
            raise ModelError(f"model {about.name}: its alphabet does not fit it")
        self.search: JointOptions | None = None
        if decode == "joint":
            if not model.has_decoder or not has_ends(self.tokenizer):
                raise UsageError(f"--decode joint: model {about.name} has no decoder, only CTC")
            self.search = JointOptions(beam=beam)

    @torch.inference_mode()
    def __call__(self, samples: np.ndarray) -> str:
        memory = self.model.encode(self.model.features(torch.from_numpy(samples)[None].to(self.device)))
        if self.search is not None:
            return self.tokenizer.decode(joint_search(self.model, memory[0], self.search))
        log_probs = self.model.ctc(memory).log_softmax(-1)[0].cpu().numpy()
        decoder = GreedyDecoder()
        return self.tokenizer.decode(t.id for t in [*decoder.push(log_probs), *decoder.flush()])


def measure(
    systems: Sequence[Hears],
    sets: Sequence[LengthSet],
    seed: int = 0,
    on_event: Callable[[Row], None] = print,
) -> list[Row]:
    """One row for every set and system: ``set``, ``system``, ``parameters``, ``mean_seconds`` of a recording,
    and what ``evaluate_recognition`` tells (wer, cer, words, costs). ``on_event`` gets an "example" each."""
    rows = []
    for one in sets:

        def report(event: Row, name: str = one.name) -> None:
            on_event({**event, "set": name})

        scored = evaluate_items(systems, one.items, report, seed)
        for system in systems:
            row = {"set": one.name, "system": system.name, "parameters": system.parameters}
            mean = one.seconds / len(one.items)
            rows.append(row | {"mean_seconds": mean, **scored[system.name]})
    return rows


def write_sets(sets: Sequence[LengthSet], rate: int, folder: Path) -> None:
    """Every recording as FLAC in ``folder``/NAME/, and a manifest.tsv over all of them whose split is the
    set's name. Raises OutputError."""
    import soundfile as sf

    from slyther_cli.research.training.data import read_mono

    try:
        with _manifest(folder) as file:
            rows = csv.writer(
                file, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\", lineterminator="\n"
            )
            rows.writerow(("path", "speaker", "split", "transcript"))
            for one in sets:
                (folder / one.name).mkdir(exist_ok=True)
                for number, item in enumerate(one.items):
                    path = Path(one.name) / f"{number:04}-{item.paths[-1].stem}.flac"
                    whole = np.concatenate([read_mono(part, rate) for part in item.paths])
                    sf.write(folder / path, whole, rate, subtype="PCM_16")
                    rows.writerow((path, item.speaker, one.name, item.text))
    except (OSError, sf.LibsndfileError) as error:
        raise OutputError(
            f"{folder} cannot be written: {getattr(error, 'strerror', None) or error}"
        ) from None


def _manifest(folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    return open(folder / "manifest.tsv", "w", encoding="utf-8", newline="")
