"""Files that no command can hear, for tests of what becomes of a batch that has some."""

from pathlib import Path

import numpy as np
import soundfile as sf


def write_bad_recordings() -> dict[str, str]:
    """Make them in the current folder: name -> words of the message."""
    Path("dir.wav").mkdir()
    Path("empty.wav").touch()
    Path("text.wav").write_text("this is no sound\n" * 50)
    sf.write("nothing.wav", np.zeros((0, 1), np.float32), 8000)
    sf.write("slow.wav", np.zeros(20, np.float32), 1)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 50_000).astype(np.float32)
    for name, cut, size in (("header.wav", "whole.wav", 30), ("cut.flac", "whole.flac", 9000)):
        sf.write(cut, noise, 8000)
        Path(name).write_bytes(Path(cut).read_bytes()[:size])
        Path(cut).unlink()
    Path("loop.wav").symlink_to("loop.wav")
    return {
        "dir.wav": "no audio files",
        "empty.wav": "0 bytes",
        "text.wav": "not a sound file",
        "nothing.wav": "no samples",
        "slow.wav": "1 Hz",
        "header.wav": "header.wav",
        "cut.flac": "damaged",
        "loop.wav": "loop.wav",
        "missing.wav": "no such file",
        "n\nl.wav": "no such file",
    }
