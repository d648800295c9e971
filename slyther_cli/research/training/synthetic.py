"""Speech made by other programs (espeak-ng, flite, festival) as training material: a manifest and its sounds.

Synthetic voices teach spelling and alignment, in any amount and with a text that is known exactly; how people
sound they do not teach. What comes out depends on the texts, the voices, the seed and the programs' versions
only: utterance ``i`` draws its sentence, voice, speed and pitch from ``[seed, i]``.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from slyther_cli.english.sentences import split_sentences
from slyther_cli.errors import InputError, OutputError, UsageError
from slyther_cli.files import whole
from slyther_cli.research.training.data import read_table

COLUMNS = ("path", "speaker", "sex", "duration_s", "sample_rate", "split", "transcript", "phones")
FORMATS = {"flac": ("FLAC", "PCM_16"), "opus": ("OGG", "OPUS")}
MANIFEST, SETTINGS, BEGUN = "manifest.tsv", "settings.json", "manifest.begun.tsv"
SECONDS_AT_MOST = 60.0  # for one sentence, before the program is thought to hang
_FEMALE_VARIANTS = ("f1", "f2", "f3", "f4", "f5", "Alicia", "Andrea", "Annie", "belinda", "linda", "steph")
_MALE_VARIANTS = (
    *(
        "m1",
        "m2",
        "m3",
        "m4",
        "m5",
        "m6",
        "m7",
        "m8",
        "Alex",
        "Andy",
        "Denis",
        "Gene",
        "Hugo",
        "Lee",
        "Marco",
    ),
    *(
        "Mario",
        "Michael",
        "Mike",
        "benjamin",
        "david",
        "ed",
        "john",
        "max",
        "paul",
        "quincy",
        "rob",
        "robert",
    ),
)


@dataclass(frozen=True)
class Voice:
    """``program:name``. ``pitches``: what the program's own pitch scale may be set to, lowest and highest."""

    program: str
    name: str
    sex: str
    pitches: tuple[float, float]

    @property
    def speaker(self) -> str:
        return re.sub(r"[^0-9A-Za-z]+", "-", f"{self.program}-{self.name}")


def _known() -> dict[str, Voice]:
    voices = []
    for language in ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan"):
        voices.append(Voice("espeak-ng", language, "M", (35, 65)))
        for variants, sex in ((_FEMALE_VARIANTS, "F"), (_MALE_VARIANTS, "M")):
            voices += [Voice("espeak-ng", f"{language}+{v}", sex, (35, 65)) for v in variants]
    flite = {"slt": ("F", 172), "rms": ("M", 95), "awb": ("M", 130), "kal16": ("M", 105), "kal": ("M", 105)}
    voices += [Voice("flite", n, sex, (0.9 * f0, 1.15 * f0)) for n, (sex, f0) in flite.items()]
    festival = {"kal_diphone": "M", "ked_diphone": "M", "cmu_us_slt_arctic_hts": "F"}
    voices += [Voice("festival", name, sex, (1, 1)) for name, sex in festival.items()]
    return {f"{v.program}:{v.name}": v for v in voices}


VOICES = _known()
"""Every voice that is known, by its name; the programs may not be installed."""


def choose_voices(names: Sequence[str]) -> list[Voice]:
    """Voices by name ("flite:slt"), or all of a program by its name ("espeak-ng"), or "all" that are here.

    Raises :class:`UsageError`: an unknown name, a program that is not installed.
    """
    chosen: dict[str, Voice] = {}
    for name in names:
        every = {k: v for k, v in VOICES.items() if k == name or v.program == name or name == "all"}
        here = {k: v for k, v in every.items() if shutil.which(_binary(v.program))}
        if not every:
            raise UsageError(f"unknown voice {name!r}: such as flite:slt, espeak-ng:en-us+f2, flite, all")
        if not here:
            raise UsageError(f"no voice {name} here: install {next(iter(every.values())).program} first")
        chosen |= here
    return list(chosen.values())


def _binary(program: str) -> str:
    return "text2wave" if program == "festival" else program


def read_sentences(paths: Sequence[Path], shortest: int = 2, longest: int = 200) -> list[str]:
    """The sentences of texts (.tsv: the transcripts of a manifest's split ``train``), each once, in order;
    of ``shortest`` words at least and ``longest`` characters at most. Raises :class:`InputError`."""
    found: dict[str, None] = {}
    for path in paths:
        if path.suffix == ".tsv":
            rows = read_table(path, ("path", "split"))
            texts = [r["transcript"] for r in rows if r["split"] == "train" and r.get("transcript")]
        else:
            try:
                texts = path.read_text(encoding="utf-8").split("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from None
        for text in texts:
            for sentence in split_sentences(text, longest):
                plain = _plain(sentence.text)
                if len(plain.split()) >= shortest and re.search("[a-z]", plain):
                    found.setdefault(plain)
    if not found:
        raise InputError(f"no sentences in {', '.join(map(str, paths))}")
    return list(found)


def _plain(sentence: str) -> str:
    """Without what synthesizers spell out or stumble over; capitals alone become small letters."""
    sentence = re.sub(r"[\"“”()\[\]{}<>_*|\\^~`#\x00-\x1f]", " ", sentence).replace("’", "'")
    sentence = re.sub(r"\s*(--+|—)\s*", ", ", sentence)
    sentence = re.sub(r"([.?!,;:])\s*,", r"\1", sentence)
    if sentence == sentence.upper():
        sentence = re.sub(r"\bi\b", "I", sentence.lower())
    return " ".join(sentence.split()).strip(" ,;:-'")


@dataclass(frozen=True)
class Plan:
    """What decides the result. ``vary``: how far speed and pitch are drawn from the voice's own, 0 to 1."""

    voices: tuple[str, ...]
    hours: float
    seed: int = 0
    vary: float = 1.0
    rate: int = 16000
    format: str = "flac"

    def __post_init__(self) -> None:
        if not self.voices or not 0 < self.hours <= 100_000 or not 0 <= self.vary <= 1 or self.seed < 0:
            raise UsageError("name a voice; hours must be above 0, vary from 0 to 1, seed 0 or more")
        if self.format not in FORMATS or not 8000 <= self.rate <= 48000:
            raise UsageError(f"the format must be {' or '.join(FORMATS)}, the rate from 8000 to 48000")
        if self.format == "opus" and self.rate not in (8000, 12000, 16000, 24000, 48000):
            raise UsageError("Opus has the rates 8000, 12000, 16000, 24000 and 48000 only")


@dataclass(frozen=True)
class Spoken:
    """One utterance: mono float32 at ``rate``. ``phones``: "name:end name:end ...", seconds, if the program
    tells them."""

    samples: np.ndarray
    rate: int
    phones: str = ""


def synthesize(
    texts: Sequence[Path],
    folder: Path,
    plan: Plan,
    workers: int = 2,
    on_event: Callable[[dict], None] = lambda event: None,
) -> Path:
    """Speak sentences until there are ``plan.hours`` of them; the manifest's path. Goes on where an earlier
    call with the same plan and texts stopped.

    Raises :class:`UsageError`, :class:`InputError` (texts), :class:`OutputError`: the folder cannot be
    written, or holds what another plan made.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is no folder: name one for the speech")
    voices = choose_voices(plan.voices)
    sentences = read_sentences(texts)
    settings = {**asdict(plan), "voices": [v.speaker for v in voices], "texts": _digest(sentences)}
    del settings["hours"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        rows = _begun(folder, settings)
        done = sum(float(r[3]) for r in rows)
        with (
            open(folder / BEGUN, "a", encoding="utf-8", newline="") as table,
            ThreadPoolExecutor(workers) as pool,
            tempfile.TemporaryDirectory(prefix="slyther-") as work,
        ):
            writer = csv.writer(
                table, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n"
            )
            if not rows:
                writer.writerow(COLUMNS)
            # Many at a time, in order: where the hours are reached does not depend on who finishes first.
            while done < plan.hours * 3600:
                numbers = range(len(rows), len(rows) + 8 * workers)
                jobs = [(i, sentences, voices, plan, folder, Path(work)) for i in numbers]
                for row in pool.map(lambda job: _utterance(*job), jobs):
                    if done >= plan.hours * 3600:
                        if row[0] != "-":
                            (folder / row[0]).unlink(missing_ok=True)
                        continue
                    writer.writerow(row)
                    rows.append(row)
                    done += float(row[3])
                table.flush()
                if len(rows) > 50 and done == 0:
                    raise InputError("the voices speak none of these sentences: try a program by hand")
                on_event(
                    {"event": "progress", "hours": done / 3600, "of": plan.hours, "utterances": len(rows)}
                )
        good = [r for r in rows if r[0] != "-"]
        _write_table(folder / MANIFEST, good)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror or error}") from None
    on_event({"event": "done", "hours": done / 3600, "utterances": len(good)})
    return folder / MANIFEST


def _digest(sentences: list[str]) -> str:
    return hashlib.sha256("\n".join(sentences).encode()).hexdigest()[:16]


def _begun(folder: Path, settings: dict) -> list[list[str]]:
    """The rows that are done. Raises :class:`OutputError` when they were made otherwise."""
    path = folder / SETTINGS
    if not path.exists():
        path.write_text(json.dumps(settings, indent=1) + "\n")
    elif json.loads(path.read_text()) != json.loads(json.dumps(settings)):
        raise OutputError(f"{folder} holds speech made with other settings or texts: use another folder")
    if not (folder / BEGUN).exists():
        return []
    lines, _, _cut = (folder / BEGUN).read_text(encoding="utf-8").rpartition("\n")  # killed while writing
    (folder / BEGUN).write_text(lines + "\n" if lines else "", encoding="utf-8")
    return [line.split("\t") for line in lines.split("\n")[1:]]


def _write_table(path: Path, rows: list[list[str]]) -> None:
    with whole(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def split_of(sentence: str) -> str:
    """The split a sentence belongs to, whoever speaks it: 1 in 50 is dev, 1 in 50 test."""
    number = int.from_bytes(hashlib.sha256(sentence.lower().encode()).digest()[:4], "big") % 50
    return {0: "dev", 1: "test"}.get(number, "train")


def _utterance(
    i: int, sentences: list[str], voices: list[Voice], plan: Plan, folder: Path, work: Path
) -> list[str]:
    """Make utterance ``i``; its row, with path "-" and no length if the voice fails on it."""
    import soundfile as sf
    import soxr

    epoch, place = divmod(i, len(sentences))
    order = np.random.default_rng([plan.seed, epoch, 1]).permutation(
        len(sentences)
    )  # every sentence once an epoch
    sentence = sentences[order[place]]
    rng = np.random.default_rng([plan.seed, i, 2])
    programs = sorted({v.program for v in voices})  # each as often: espeak-ng has twenty times as many voices
    program = programs[rng.integers(len(programs))]
    those = [v for v in voices if v.program == program]
    voice = those[rng.integers(len(those))]
    speed, pitch = 1 + plan.vary * rng.uniform(-0.2, 0.25), 0.5 + plan.vary * rng.uniform(-0.5, 0.5)
    try:
        spoken = speak(voice, sentence, speed, pitch, work / f"{i % 4096}")
    except InputError:
        return ["-", voice.speaker, voice.sex, "0", "0", "train", sentence, ""]
    samples = soxr.resample(spoken.samples, spoken.rate, plan.rate)
    samples *= np.float32(min(0.5, 0.9 / max(1e-3, float(np.abs(samples).max()))) / 0.5)  # never clipped
    name = f"{voice.speaker}/{i // 1000:03d}/{voice.speaker}-{i:06d}.{plan.format}"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    container, subtype = FORMATS[plan.format]
    sf.write(folder / name, samples, plan.rate, format=container, subtype=subtype)
    length = f"{len(samples) / plan.rate:.3f}"
    return [
        name,
        voice.speaker,
        voice.sex,
        length,
        str(plan.rate),
        split_of(sentence),
        sentence,
        spoken.phones,
    ]


def speak(
    voice: Voice, text: str, speed: float = 1.0, pitch: float = 0.5, stem: Path | None = None
) -> Spoken:
    """What the voice makes of ``text``. ``speed`` 1 is its own; ``pitch`` from 0 to 1 within its range.

    Raises :class:`InputError` when the program fails, takes too long, or makes no sound.
    """
    import soundfile as sf

    with tempfile.TemporaryDirectory(prefix="slyther-") as own:
        base = stem or Path(own) / "spoken"
        source, sound = base.with_suffix(".txt"), base.with_suffix(".wav")
        source.write_text(text + "\n", encoding="utf-8")
        try:
            done = subprocess.run(
                _command(voice, speed, pitch, source, sound),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=SECONDS_AT_MOST,
            )
            samples, rate = sf.read(sound, dtype="float32")
        except (OSError, subprocess.TimeoutExpired, sf.LibsndfileError) as error:
            raise InputError(f"{voice.program} {voice.name} cannot speak {text[:40]!r}: {error}") from None
        finally:
            source.unlink(missing_ok=True)
            sound.unlink(missing_ok=True)
    if done.returncode or len(samples) < rate // 10 or not np.abs(samples).max() > 1e-3:
        raise InputError(f"{voice.program} {voice.name} makes no sound of {text[:40]!r}")
    phones = _phones(done.stdout.decode("ascii", "replace")) if voice.program == "flite" else ""
    if abs(float(phones.rpartition(":")[2] or 0) - len(samples) / rate) > 0.05:
        phones = ""  # flite's diphone voices (kal) do not keep to the times that they print
    return Spoken(np.ascontiguousarray(samples), rate, phones)


def _command(voice: Voice, speed: float, pitch: float, source: Path, sound: Path) -> list[str]:
    low, high = voice.pitches
    tone = low + pitch * (high - low)
    if voice.program == "espeak-ng":
        settings = ["-v", voice.name, "-s", str(round(165 * speed)), "-p", str(round(tone))]
        return ["espeak-ng", *settings, "-f", str(source), "-w", str(sound)]
    if voice.program == "flite":
        settings = [f"duration_stretch={1 / speed:.3f}", f"int_f0_target_mean={tone:.1f}"]
        flags = [word for setting in settings for word in ("--setf", setting)]
        return ["flite", "-voice", voice.name, *flags, "-psdur", "-f", str(source), "-o", str(sound)]
    scheme = f"(begin (voice_{voice.name}) (Parameter.set 'Duration_Stretch {1 / speed:.3f}))"
    return ["text2wave", "-eval", scheme, str(source), "-o", str(sound)]


def _phones(printed: str) -> str:
    """flite's "phone:end" words with ends from the start of the file, though it counts anew a sentence."""
    out, base, last = [], 0.0, 0.0
    for name, end in _pairs(printed):
        if end + base < last - 1e-6:
            base = last
        last = base + end
        out.append(f"{name}:{last:.3f}")
    return " ".join(out)


def _pairs(printed: str) -> Iterator[tuple[str, float]]:
    for word in printed.split():
        name, _, end = word.rpartition(":")
        if name and re.fullmatch(r"\d+\.\d+", end):
            yield name, float(end)
