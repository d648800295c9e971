"""Stems that can be heard while they are written."""

import contextlib
from pathlib import Path
from typing import BinaryIO

from slyther_cli.audio.sinks import Flac, Wav
from slyther_cli.audio.writer import StemGroup, sync_folder


class GrowingStems(StemGroup):
    """As :class:`StemGroup`, but the files have their names from the beginning and can be read at any time.

    ``abort``, an exception, or leaving without commit closes them as they are, all WAV files with the same
    length; they are removed only if they have no sample. The level of what is still to come is unknown, so
    ``clip`` is "clamp" or "none". FLAC is written in frames of 4096 samples.
    """

    def commit(self, sync_names: bool = True) -> None:
        if not self._open:
            raise ValueError("commit after commit or abort")
        for path, sink in zip(self.paths, self._sinks, strict=True):
            with self._guarding(path):
                sink.close()
        self._open, self._sinks = False, []
        for folder in {path.parent for path in self.paths}:
            sync_folder(folder)
        self._tell()

    def abort(self) -> None:
        if self.frames_written:
            for sink in self._sinks:
                with contextlib.suppress(OSError, ValueError):  # a full disk; closed already
                    if isinstance(sink, Wav):
                        sink.cut(self.frames_written)
                with contextlib.suppress(OSError, ValueError):
                    sink.close()
            self._temporary, self._made = [], []
        super().abort()

    def _create(self, path: Path) -> BinaryIO:
        path.unlink(missing_ok=True)
        file = open(path, "x+b", buffering=0)  # noqa: SIM115 - closed by its sink
        self._temporary.append(path)
        return file  # type: ignore[return-value]

    def _sink(self, path: Path) -> Wav | Flac:
        if self.format == "flac":
            return super()._sink(path)
        return Wav(self._create(path), self.rate, self.subtype, None, self.metadata, growing=True)
