"""Make the example recordings of this folder with flite (the Debian package of that name).

    python examples/make_examples.py

writes two_voices.flac: a man's and a woman's synthetic voice speaking at the same time (16 kHz, about 10 s),
and voice_1.flac, voice_2.flac, what each of them said. No recorded person is in them. The pair was chosen
among flite's voices because the shipped model improves it about as much as an average pair of unseen
people; it does worse on others (flite's rms and slt: hardly at all).
"""

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

RATE = 16_000
HERE = Path(__file__).resolve().parent
ONE = (
    "The ferry leaves the northern pier at half past seven, and the crossing takes a little over an hour. "
    "Bring a warm coat, because the wind on the upper deck is stronger than it looks."
)
TWO = (
    "I measured the garden again this morning and it is four metres longer than the old plan says. "
    "Perhaps the fence was moved when they built the new road along the river."
)


def speak(voice: str, text: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "voice.wav"
        subprocess.run(["flite", "-voice", voice, "-o", str(wav), "-t", text], check=True)
        audio, rate = sf.read(wav, dtype="float32")
    audio = soxr.resample(audio, rate, RATE)
    return audio * (0.07 / np.sqrt(np.mean(audio**2)))


def main() -> None:
    voices = [speak("kal16", ONE), speak("slt", TWO)]
    length = max(map(len, voices))
    voices = [np.pad(v, (0, length - len(v))) for v in voices]
    for name, audio in (("two_voices", sum(voices)), ("voice_1", voices[0]), ("voice_2", voices[1])):
        sf.write(HERE / f"{name}.flac", np.clip(audio, -1, 1), RATE, subtype="PCM_16")


if __name__ == "__main__":
    main()
