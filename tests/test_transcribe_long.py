"""`slyther transcribe` on long recordings: true times, constant memory, no words out of nothing."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
import tones
from tones import transcribed
from tools import files_in

EVERY = 600  # seconds between two clicks of the long file


pytestmark = pytest.mark.usefixtures("place")


def clicks(name, seconds, every, rate):
    """Silence with 40 ms of a tone at odd places about every ``every`` seconds; where they begin."""
    rng = np.random.default_rng(0)
    starts = [round((k * every + rng.uniform(0.3, 0.7)) * rate) for k in range(seconds // every)]
    starts.append(seconds * rate - round(0.5 * rate))  # and at the end
    click = tones.beep("a", 0.04, rate)
    with sf.SoundFile(name, "w", rate, 1, "PCM_16") as file:
        for second in range(seconds):
            x = np.zeros(rate, np.float32)
            for start in starts:
                if start // rate == second:
                    x[start % rate :][: len(click)] = click[: rate - start % rate]
            file.write(x)
    return [start / rate for start in starts]


@pytest.mark.parametrize(
    ("seconds", "every", "rate", "model"),
    [
        (600, 55, 11_025, "tones"),
        pytest.param(3 * 3600, EVERY, 44_100, "tones", marks=pytest.mark.slow),
        pytest.param(3 * 3600, EVERY, 44_100, "live", marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(7200)
def test_clicks_are_where_they_are(capfd, seconds, every, rate, model):
    """No more than 40 ms off, at the end as at the start: times are counted in samples."""
    starts = clicks("clicks.flac", seconds, every, rate)
    code, out, _ = transcribed(capfd, "clicks.flac", "-m", model, "-f", "json", "--memory-limit", "200MB")
    heard = json.loads(out)["segments"]
    assert code == 0 and [one["text"] for one in heard] == [" a"] * len(starts)
    off = [one["start"] - start for one, start in zip(heard, starts, strict=True)]
    print(f"{model}: off by {min(off) * 1000:.0f} to {max(off) * 1000:.0f} ms", file=sys.stderr)
    assert max(map(abs, off)) <= 0.04
    assert all(0 < one["end"] - one["start"] <= 0.12 for one in heard)


# Runs ``slyther transcribe - ARGUMENTS`` with so many seconds of silence coming in on stdin as it is made,
# and prints the peak beside the process that has loaded everything but the model.
CHILD = """
import subprocess, sys
import numpy as np, soundfile, soxr, torch
from slyther_cli import app
from slyther_cli.transcription import job, recogniser
import slyther_cli.commands.transcribe

SOUND = '''
import sys
out, seconds = sys.stdout.buffer, int(sys.argv[1])
for _ in range(seconds // 60):
    out.write(bytes([128]) * 8000 * 60)
'''

def kilobytes(key):
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1])

torch.set_num_threads(1)
idle = kilobytes("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here
with subprocess.Popen([sys.executable, "-c", SOUND, sys.argv[1]], stdout=subprocess.PIPE) as sound:
    sys.stdin = open(sound.stdout.fileno(), closefd=False)
    code = app.main(["transcribe", "-", "--raw", "8000:1:u8", *sys.argv[2:]])
print("peak", 1024 * (kilobytes("VmHWM") - idle), file=sys.stderr)
sys.exit(code)
"""


def silence(place, seconds, *options):
    """Transcribe so much silence; the peak in bytes."""
    command = [sys.executable, "-c", CHILD, str(seconds), "--work-dir", ".", "-f", "json", *options]
    env = {**os.environ, "PYTHONHASHSEED": "0"}  # the allocator's holes differ with it
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"text": "", "segments": [], "language": "en"}
    assert not files_in()  # neither tape nor copy of stdin
    peak = int(done.stderr.split("peak ")[1])
    print(peak >> 20, "MB", options, file=sys.stderr)
    return peak


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
@pytest.mark.parametrize("model", ["tones", pytest.param("live", marks=pytest.mark.slow)])
def test_silence_takes_no_memory(place, models, model):
    """Beyond the tiles in work (82 s each), a minute more takes nothing but the allocator's jitter (9 MB,
    seldom 19, so of two runs each); the samples of these five minutes alone would take 19 MB."""
    limit = ("-m", model, "--memory-limit", "90MB")
    short = max(silence(place, 180, *limit) for _ in range(2))
    longer = min(silence(place, 480, *limit) for _ in range(2))
    assert longer < short + (14 << 20) and longer < 100 << 20


@linux
@pytest.mark.slow
@pytest.mark.timeout(10_800)
@pytest.mark.parametrize("model", ["tones", "live"])
def test_a_day_of_silence(place, models, model):
    limit = ("-m", model, "--memory-limit", "90MB")
    short, day = silence(place, 180, *limit), silence(place, 24 * 3600, *limit)
    print(f"{model}: {short >> 20} MB for three minutes, {day >> 20} MB for a day", file=sys.stderr)
    assert day < short + (16 << 20)
