"""One file of speech with what stands beside it: codes become sound, subtitles and marks of chapters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from slyther_cli.audio.equalise import Equaliser
from slyther_cli.english.phonemes import Spelling
from slyther_cli.errors import OutputError
from slyther_cli.files import reason, whole
from slyther_cli.models.codec import Codec, CodecDecoder
from slyther_cli.models.vall_sampling import Said
from slyther_cli.synthesis.options import SpeakOptions
from slyther_cli.synthesis.output import Mark, open_output
from slyther_cli.synthesis.tracks import Track, cue_sheet
from slyther_cli.synthesis.word_times import Subtitles, time_words


class SpeechFile:
    """The files of a track, open. ``colour``: a filter over all sound, from its beginning. ``at``: seconds of
    speech so far; ``frames``: samples written, while some are held back.

    All files appear with ``commit``, the sound last, or none. Raises OutputError, UsageError."""

    def __init__(self, track: Track, codec: Codec, options: SpeakOptions, colour: Equaliser | None) -> None:
        self.track, self.codec, self.rate = track, codec, codec.sample_rate
        self._hop, self._options, self._colour = round(self.rate / codec.frame_rate), options, colour
        self._decoder, self._sample, self.frames, self._open = CodecDecoder(codec), 0, 0, False
        self._marks: list[Mark] = []
        self._written: list[Path] = []
        self._sink = open_output(
            track.output, self.rate, options.encoding, options.raw, options.replace, track.metadata
        )
        self._subtitles: Subtitles | None = None
        if track.subtitles:
            try:
                self._subtitles = Subtitles(track.subtitles, self.rate, self._hop, track.output)
            except BaseException:
                self._sink.abort()
                raise

    @property
    def at(self) -> float:
        return self._sample / self.rate

    def mark(self, title: str) -> None:
        """A chapter begins."""
        self._marks.append(Mark(self.at, title))

    def add(self, text: str, spelling: Spelling, said: Said) -> None:
        """A sentence, as it is written and as it was said."""
        if self._subtitles:
            assert said.durations is not None
            durations = said.durations.tolist()
            words = time_words(text, spelling.said, spelling.symbols, durations)
            self._subtitles.add(words, self._sample)
        self.hear(said.codes)

    def hear(self, codes: torch.Tensor) -> None:
        """Codes [n_codebooks, n] of a sentence, or of a piece of one."""
        self._sample += codes.shape[1] * self._hop
        self._open = True
        self._write(self._decoder.push(codes[None])[0])

    def pause(self, seconds: float) -> None:
        """A pause, unless nothing was said since the last one. What the decoder held back comes before it."""
        if not self._open:
            return
        silence = torch.zeros(int(seconds * self.rate * self._options.pause / self._options.speed))
        rest = self._decoder.flush()[0]
        self._decoder, self._open = CodecDecoder(self.codec), False
        self._sample += len(silence)
        if self._subtitles:
            self._subtitles.part()
        self._write(torch.cat((rest, silence.to(rest.device))))

    def commit(self) -> None:
        """All is said."""
        self._write(self._decoder.flush()[0])
        if self._colour:
            self._put(self._colour.flush())
        if self._subtitles:
            self._subtitles.commit()
            self._written += self.track.subtitles.values()
        if self.track.cue:
            self._write_cue(self.track.cue)
            self._written.append(self.track.cue)
        self._sink.commit(self._marks if self.track.cue else ())

    def abort(self) -> None:
        """Remove all that was written."""
        self._sink.abort()
        if self._subtitles:
            self._subtitles.abort()
        for path in self._written:
            path.unlink(missing_ok=True)

    def _write(self, samples: torch.Tensor) -> None:
        ready = samples.float().cpu().numpy()
        self._put(self._colour.push(ready) if self._colour else ready)

    def _put(self, samples: np.ndarray) -> None:
        self._sink.write(samples)
        self.frames += len(samples)

    def _write_cue(self, path: Path) -> None:
        try:
            with whole(path, "w", encoding="utf-8", newline="\n") as file:
                file.write(cue_sheet(self.track, self._marks))
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {reason(error)}") from None
