"""Speech separation as a job: recordings in, one sound file a speaker out.

A recording flows through in blocks, so that nothing here grows with its length:

    AudioReader (mono, at the model's rate) -> audio.level -> longform.separate_whole -> stems at the model's
    rate
      -> StreamResampler (back to the recording's rate and exactly its length) -> [highband] -> [+ residual]
      -> [report] -> StemGroup

Levels are those of the recording, without what lies below speech; when a peak would clip, all stems of a
recording are scaled alike.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import slyther_cli
from slyther_cli.audio.discover import Input, check_extension, output_paths
from slyther_cli.audio.growing import GrowingStems
from slyther_cli.audio.level import MIXTURE_DB, heard_by
from slyther_cli.audio.live import LiveReader, listen
from slyther_cli.audio.reader import AudioReader
from slyther_cli.audio.streams import BLOCK, Lockstep, at_source_rate
from slyther_cli.audio.writer import BITS, Encoding, StemGroup
from slyther_cli.errors import UsageError
from slyther_cli.jobs.batch import Batch
from slyther_cli.jobs.estimate import cost
from slyther_cli.jobs.locks import part_name
from slyther_cli.jobs.options import Paths, takes
from slyther_cli.jobs.results import SeparationResult
from slyther_cli.jobs.setup import choose_model, count_speakers, out_of_memory, pick_device, sample_rate
from slyther_cli.jobs.work import Outputs, Turn, nobody
from slyther_cli.separation.balance import Balance
from slyther_cli.separation.live import LiveStems, write_stems
from slyther_cli.separation.options import SeparateOptions
from slyther_cli.separation.overview import Overview

if TYPE_CHECKING:
    from slyther_cli.longform.reunited import Found
    from slyther_cli.separation.report import Report

DEFAULT_MODEL = "mamba-tasnet-8k-2spk"
LIVE_MODEL = "mamba-tasnet-8k-2spk-causal"
DEFAULT_OUTPUT_DIR = "separated"
SWEPT = 0.9  # of the work, where voices are matched: the rest comes when all is separated

Event = dict[str, Any]


@takes(SeparateOptions)
def separate(
    inputs: Paths,
    output_dir: str | os.PathLike[str] = DEFAULT_OUTPUT_DIR,
    model: str | os.PathLike[str] | None = None,
    *,
    on_event: Callable[[Event], None] | None = None,
    **options: Any,
) -> list[SeparationResult]:
    """Separate recordings into one file a speaker, and return one result an input.

    ``inputs``        files, folders, globs, "-" for standard input; one, or several. A causal model separates
                      standard input while it comes (docs/longform.md).
    ``output_dir``    where the stems go. Files appear whole or not at all, at the rate and length of the
                      input.
    ``model``         name or folder; by default the model that comes with slyther, or one for ``speakers``.
    ``on_event``      called with dictionaries: "event" is start, note, plan, progress, live, file_done, error
                      or summary.

    An input that fails does not stop the others: its result has the error. Raised is only what stops all of
    them: UsageError (options, colliding names), ModelError, DeviceError.
    """
    chosen = SeparateOptions(**options)
    chosen.check()
    named = chosen.named(inputs)
    config = choose_model("separate", model, DEFAULT_MODEL, chosen.speakers)
    if chosen.match_speakers and count_speakers(config) != 2:
        raise UsageError("--match-speakers is for two speakers: this model separates another number")
    folder, tell = Path(output_dir), on_event or nobody
    results: list[Any] = Separation(config=config, output_dir=folder, options=chosen, tell=tell).run(named)
    return results


@dataclass(kw_only=True)
class Separation(Batch):
    """Many recordings, one model."""

    task = "separate"
    result = SeparationResult

    options: SeparateOptions
    model: Any = None

    @property
    def matches(self) -> bool:
        """Whether stretches are put into the file of their voice."""
        asked = self.options.match_speakers
        return self.config.name == DEFAULT_MODEL if asked is None else asked

    def outputs(self, source: Input) -> Outputs:
        o = self.options
        stems = [f"s{i + 1}" for i in range(count_speakers(self.config))] + ["residual"] * o.residual
        fields = self.fields(source, "stdin" if source == "-" else str(source))
        assert self.output_dir is not None
        paths = output_paths(o.filename, self.output_dir, stems, ext=o.format, **fields)
        for stem_path in paths:
            check_extension(stem_path, o.format)
        outputs = dict(zip(stems, paths, strict=True))
        if o.report:
            (page,) = output_paths(o.filename, self.output_dir, ["report"], ext="html", **fields)
            outputs["report"] = page.with_suffix(".html")
        return outputs

    def open(self, source: Input, stack: ExitStack) -> tuple[Path | None, AudioReader | LiveReader]:
        stream = None
        if source == "-":
            stream, text = self.standard_input(), "it is read to its end first"
            if self.config.config.get("causal"):
                live = listen(stream, "standard input", self.options.channel, sample_rate(self.config))
                if isinstance(live, LiveReader):
                    return None, live
                stream, text = live, f"its samples are not plain WAV, so {text}"
            else:
                text = f"the model is bidirectional, so {text}; --model {LIVE_MODEL} does not wait for it"
            self._tell("note", file="-", text=text)
        return self.reader(source, stack, stream)

    def load(self) -> None:
        if self.model is not None:
            return
        device = pick_device(self.options.device)
        import torch

        from slyther_cli.checkpoints import store

        if self.options.threads:
            torch.set_num_threads(self.options.threads)
        assert self.config.path is not None
        try:
            self.model = store.load(self.config.path, expect_task="separate")[0].to(device)
        except (RuntimeError, MemoryError) as error:
            raise (out_of_memory(error) or error) from None
        self.device = device

    @cached_property
    def cost(self) -> float:
        """Seconds of work for a second of sound, as measured here."""
        from slyther_cli.longform import plan_separation, separate_whole

        def work(x: np.ndarray) -> None:
            for _ in separate_whole(self.model, lambda: iter([x]), plan_separation(self.model, len(x))):
                pass

        return cost(work, sample_rate(self.config))

    def compute(
        self, name: str, file: Path, reader: AudioReader, outputs: Outputs, turn: Turn
    ) -> SeparationResult:
        from slyther_cli.longform import plan_separation, separate_whole
        from slyther_cli.longform.plan import keeping
        from slyther_cli.longform.reunited import file_bytes
        from slyther_cli.separation.highband import filled, fills

        started, o, paths = time.monotonic(), self.options, list(outputs.values())
        if o.dry_run:
            reader.measure()
        else:
            reader.settle()
        assert reader.frames is not None and reader.source_frames is not None
        planning = self.planning(name, paths)
        plan = plan_separation(self.model, reader.frames, **planning)
        lines, seconds = tuple(plan.describe()), reader.source_frames / reader.source_rate
        if self.matches and (need := file_bytes(reader.frames)):
            lines += (keeping(plan, need, planning.get("held", 0)),)
        self._tell("plan", file=name, lines=list(lines), device=self.device, seconds=seconds)
        if o.dry_run:
            result = SeparationResult(name, "planned", outputs, reader.source_rate, reader.source_frames)
            return replace(result, notes=tuple(reader.notes), plan=lines, estimate=seconds * self.cost)

        job = None
        notes: list[str] = []
        with ExitStack() as stack:
            if o.resume and plan.tape == "none":
                notes.append("a causal model keeps no work to go on from: it began anew")
            elif o.resume:
                job = stack.enter_context(self.journal(name, paths, self.model))
            group = stack.enter_context(
                StemGroup(
                    [path for stem, path in outputs.items() if stem != "report"],
                    reader.source_rate,
                    encoding=Encoding(o.format, BITS[o.subtype]),
                    clip=o.clip,
                    frames=reader.source_frames,
                    metadata=self._metadata(),
                    part=part_name(paths),
                )
            )
            mixture, balance = None, Balance(count_speakers(self.config))
            report = self.reporting(name, outputs, reader) if o.report else None
            wide = o.highband and fills(reader.rate, reader.source_rate)
            if wide or o.residual or report is not None:
                again = stack.enter_context(AudioReader(file, o.channel, work_dir=o.work_dir, **o.reading))
                again.reach = reader.reach
                mixture = Lockstep(again.blocks(BLOCK))
            once = list(reader.blocks(BLOCK)) if reader.frames <= BLOCK else []  # a block: kept, not reread
            sound = (lambda: iter(once)) if once else (lambda: reader.blocks(BLOCK))
            heard = heard_by(self.model, sound, reader.rate, MIXTURE_DB)
            progress = self.progress(name, turn, seconds, started, job)
            swept = SWEPT if self.matches else 1.0
            stems = separate_whole(self.model, heard, plan, lambda f: progress(swept * f), job=job)
            stack.callback(getattr(stems, "close", lambda: None))
            stems = map(heard.undo, stems)
            if self.matches:

                def on_found(found: Found) -> None:
                    notes.extend(found.notes(reader.rate))
                    if report is not None:
                        report.moved = [(a / reader.rate, b / reader.rate) for a, b in found.spans]
                        report.gathered = [(a / reader.rate, b / reader.rate) for a, b in found.gathered]

                stems = self._matched(stems, reader.rate, plan.work_dir, on_found)
            blocks = at_source_rate(stems, reader)
            pairs = ((mixture.take(x.shape[1]) if mixture else x[0, :0], x) for x in blocks)
            for whole, block in filled(pairs, reader.source_rate) if wide else pairs:
                balance.add(block)
                if o.residual:
                    block = np.concatenate([block, (whole - block.sum(axis=0))[np.newaxis]])
                if report is not None:
                    report.add(whole, block)
                group.write(block)
                if swept < 1:
                    progress(swept + (1 - swept) * group.frames_written / reader.source_frames)
            if group.frames_written != reader.source_frames:
                raise AssertionError(f"{group.frames_written} samples came of {reader.source_frames}")
            group.commit(sync_names=job is not None)  # else the batch does
            if job is not None:
                notes += job.notes
            notes += [*reader.notes, *group.notes, *self._balance_notes(balance)]
            if report is not None:
                report.write(outputs["report"], notes, part_name(paths))
            if job is not None:
                job.remove()
        result = SeparationResult(name, "done", outputs, reader.source_rate, reader.source_frames)
        return replace(result, notes=tuple(notes), plan=lines, wall_seconds=time.monotonic() - started)

    def reporting(self, name: str, outputs: Outputs, reader: AudioReader) -> Report:
        """What gathers the page of a recording while its files are written."""
        from slyther_cli.separation.report import Report

        assert reader.source_frames is not None
        count, residual = count_speakers(self.config), int(self.options.residual)
        overview = Overview(reader.source_frames, reader.source_rate, count, residual)
        stems = {stem: path for stem, path in outputs.items() if stem != "report"}
        options = {k: v for k, v in self.options.given().items() if k in self.options.shaping()}
        return Report(name, stems, self.config.name, options, overview)

    def _matched(
        self, stems: Iterator[np.ndarray], rate: int, folder: Path, on_found: Callable[[Found], None]
    ) -> Iterator[np.ndarray]:
        """Stems whose stretches lie where their voices are; ``folder``: of a temporary file. Raises
        ModelError: the speaker network is not here."""
        from slyther_cli.longform.reunited import reunited
        from slyther_cli.separation.speakers import embedder

        return reunited(stems, rate, embedder(rate, str(self.device)), folder, on_found)

    def _balance_notes(self, balance: Balance) -> list[str]:
        note = balance.note()
        if note and not self.matches and count_speakers(self.config) == 2:
            note += " (`slyther separate --match-speakers` moves each stretch into the file of its voice)"
        return [note] if note else []

    def listen(self, name: str, reader: LiveReader, outputs: Outputs) -> SeparationResult:
        started, o = time.monotonic(), self.options
        for option, given in (("--match-speakers", o.match_speakers), ("--report", o.report)):
            if given:
                raise UsageError(f"{option} needs the whole recording: leave it out for live sound")
        stems = LiveStems(self.model, reader)
        lines = tuple(stems.describe(o.format))
        self._tell("plan", file=name, lines=list(lines), device=self.device, seconds=None)
        if o.dry_run:
            return SeparationResult(name, "planned", outputs, reader.source_rate, plan=lines)
        with GrowingStems(
            list(outputs.values()),
            reader.source_rate,
            encoding=Encoding(o.format, BITS[o.subtype]),
            clip="none" if o.clip == "none" else "clamp",
            metadata=self._metadata(),
        ) as group:
            write_stems(stems, group, o.residual, lambda *s: self._live(name, *s))
            group.commit()
        notes = (*reader.notes, *group.notes)
        result = SeparationResult(name, "done", outputs, reader.source_rate, reader.source_frames, notes)
        return replace(result, plan=lines, wall_seconds=time.monotonic() - started)

    def _live(self, name: str, heard: float, written: float) -> None:
        self._tell("live", file=name, heard_seconds=round(heard, 3), written_seconds=round(written, 3))

    def _metadata(self) -> dict[str, str]:
        return {
            "software": f"slyther {slyther_cli.__version__}",
            "comment": f"separated with {self.config.name}",
        }
