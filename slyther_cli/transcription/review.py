"""What a transcript's page has of the sound: its waveform, and with ``--embed`` the sound itself."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from slyther_cli.audio.discover import shown
from slyther_cli.audio.opus import OpusWriter, opus_rate
from slyther_cli.audio.peaks import Peaks
from slyther_cli.audio.reader import AudioReader
from slyther_cli.audio.streams import BLOCK
from slyther_cli.decode.recording import Recording
from slyther_cli.errors import InputError, OutputError
from slyther_cli.runtime import temporary_folder
from slyther_cli.transcription.options import TranscribeOptions

LONGEST = 2 * 3600  # seconds of sound that a page embeds: browsers refuse larger ones


def check_length(name: str, seconds: float) -> None:
    """Raises InputError when a recording is too long to be embedded."""
    if seconds > LONGEST:
        raise InputError(
            f"{shown(name)} is {seconds / 3600:.1f} hours long and --embed takes {LONGEST // 3600}: "
            "leave it out, and the page links to the recording"
        )


def listen_again(
    recording: Recording, file: Path, reader: AudioReader, options: TranscribeOptions, stack: ExitStack
) -> None:
    """Fill in what the page of ``recording`` needs of its sound, by a pass over ``file``, which ``reader``
    has read. With ``embed`` the sound is in a temporary file until ``stack`` closes it. Raises InputError,
    OutputError."""
    peaks, writer, work_dir = Peaks(), None, options.work_dir
    rate = opus_rate(reader.source_rate) if options.embed else None
    channel = "mix" if options.by_channel else options.channel
    with AudioReader(file, channel, rate, work_dir=work_dir, **options.reading) as again:
        again.name, again.reach = reader.name, reader.reach
        try:
            if rate is not None:
                place = work_dir or temporary_folder()
                recording.opus = stack.enter_context(tempfile.TemporaryFile(dir=place))  # noqa: SIM115
                writer = OpusWriter(recording.opus, rate)
            for block in again.blocks(BLOCK):
                peaks.push(block)
                if writer is not None:
                    writer.write(block)
            if writer is not None and recording.opus is not None:
                writer.close()
                recording.opus.seek(0)
        except OSError as error:
            raise OutputError(f"the sound for the page cannot be held: {error.strerror or error}") from None
    recording.peaks = peaks.heights()
