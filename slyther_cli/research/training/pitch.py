"""A codec's pitch tracker, taught by Praat; and the codebook of pitches.

Praat (Boersma 1993) finds the pitch of each utterance twice, by autocorrelation and by cross-correlation;
steps on which the two disagree teach nothing. Needs ``pip install praat-parselmouth`` (GPL-3, for training
only).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from slyther_cli.errors import UsageError
from slyther_cli.layers.pitch import HIGHEST, LOWEST, MIDDLE, N_CLASSES, PitchTracker, classes, octaves
from slyther_cli.research.training.quantizer import KMEANS, k_means

AGREE = 0.03
SPEEDS = (0.7, 0.8, 0.9, 1.0, 1.0, 1.1, 1.25, 1.4)
WIDTH = 1.2  # classes: how sharp the target is
LR = 1.5e-3


def praat_pitch(samples: np.ndarray, rate: int, step: int) -> np.ndarray:
    """Samples [n] -> Hz at the end of every whole ``step`` samples; 0 where unvoiced, NaN where unsure.

    Raises :class:`UsageError`: praat-parselmouth is not installed."""
    try:
        import parselmouth
    except ImportError:
        raise UsageError("a pitch tracker learns from Praat: pip install praat-parselmouth") from None
    sound = parselmouth.Sound(samples.astype(np.float64), rate)
    options = {
        "time_step": 0.005,
        "pitch_floor": LOWEST,
        "pitch_ceiling": HIGHEST,
        "voicing_threshold": 0.45,
        "octave_jump_cost": 0.6,
    }
    at = (np.arange(len(samples) // step) + 1) * (step / rate)
    found = []
    for track in (sound.to_pitch_cc(**options), sound.to_pitch_ac(**options)):
        hertz, times = track.selected_array["frequency"], track.xs()
        found.append(hertz[np.round((at - times[0]) / 0.005).astype(int).clip(0, len(hertz) - 1)])
    first, second = found
    agree = np.abs(first - second) <= AGREE * second
    return np.where(agree, first, np.nan).astype(np.float32)


def teach(
    tracker: PitchTracker, speech: np.ndarray, rate: int, steps: int, seed: int, batch: int = 24
) -> dict[str, float]:
    """Train ``tracker`` for ``steps`` steps on pieces of speech [count, n], a tenth of which are kept back.
    Returns what it does on these: ``within`` 3 %, of the steps voiced to both; ``voicing``, right."""
    hertz = torch.from_numpy(np.stack([praat_pitch(piece, rate, tracker.step) for piece in speech]))
    x, held = torch.from_numpy(speech), max(1, len(speech) // 10)
    draw = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(tracker.parameters(), lr=LR, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps, pct_start=0.1)
    tracker.train().requires_grad_(True)
    for _ in range(steps):
        rows = torch.from_numpy(held + draw.integers(len(x) - held, size=batch))
        sound, wanted = varied(x[rows], hertz[rows], tracker.step, draw)
        loss = sum(pitch_loss(tracker.logits(sound[:, None]), wanted))
        assert isinstance(loss, Tensor)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    tracker.eval().requires_grad_(False)
    return agreement(tracker, x[:held], hertz[:held])


@torch.no_grad()
def agreement(tracker: PitchTracker, x: Tensor, hertz: Tensor) -> dict[str, float]:
    """Of samples [batch, n] and Hz [batch, steps]: the share of pitches within 3 %, where voiced to both, and
    of right decisions whether it is voiced."""
    logits = tracker.logits(x[:, None])[:, : hertz.shape[1]]
    voiced, sure = logits[..., -1] > 0, hertz.isfinite()
    both = voiced & (hertz > 0)
    found = MIDDLE * 2 ** octaves(logits[..., :-1])
    within = ((found / hertz - 1).abs() < AGREE)[both].float().mean()
    return {"within": float(within), "voicing": float((voiced == (hertz > 0))[sure].float().mean())}


def varied(x: Tensor, hertz: Tensor, step: int, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Samples [batch, n] and Hz [batch, steps] at another speed, level and in noise."""
    speed = float(draw.choice(SPEEDS))
    length = int(x.shape[1] / speed) // step * step
    x = F.interpolate(x[:, None], size=length, mode="linear", align_corners=False)[:, 0]
    at = ((torch.arange(length // step) + 1) * (hertz.shape[1] / (length // step)) - 1).round().long()
    hertz = hertz[:, at.clamp(0, hertz.shape[1] - 1)] * (x.new_tensor(speed))
    level = x.square().mean(1, keepdim=True).sqrt()
    noise = torch.from_numpy(draw.standard_normal(x.shape, np.float32))
    tilt = float(draw.uniform(0, 0.95))
    noise = torch.cat((noise[:, :1], noise[:, 1:] + tilt * noise[:, :-1]), 1)
    snr = torch.from_numpy(draw.uniform(5, 45, (len(x), 1)).astype(np.float32))
    x = x + noise * level * 10 ** (-snr / 20)
    return x * torch.from_numpy(10 ** (draw.uniform(-15, 9, (len(x), 1)) / 20).astype(np.float32)), hertz


def pitch_loss(logits: Tensor, hertz: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [batch, steps, N_CLASSES + 1] and Hz [batch, steps] -> cross-entropy of the class where it is
    voiced, of the voicing where that is sure."""
    logits = logits[:, : hertz.shape[1]]  # without the steps that fill the last frame
    sure = hertz.isfinite()
    voiced = sure & (hertz >= LOWEST) & (hertz <= HIGHEST)
    places = classes(hertz[voiced])[:, None]
    target = torch.exp(-0.5 * ((torch.arange(N_CLASSES) - places) / WIDTH) ** 2)
    target = target / target.sum(1, keepdim=True)
    pitch = F.cross_entropy(logits[voiced][:, :-1], target)
    voicing = F.binary_cross_entropy_with_logits(logits[sure][:, -1], (hertz[sure] > 0).float())
    return pitch, voicing


@torch.no_grad()
def pitch_codebook(frames: Tensor, size: int, seed: int) -> Tensor:
    """Frames [n, 2 * per_frame] of a tracker -> [size, 2 * per_frame]: code 0 is unvoiced, the others come
    from k-means over the frames with a voice in them, each moved by up to three semitones so that all pitches
    are there."""
    draw = torch.Generator().manual_seed(seed)
    half = frames.shape[1] // 2
    x = frames[frames[:, half:].sum(1) > 0]
    shift = (torch.rand(len(x), 1, generator=draw) - 0.5) / 2
    x = torch.cat((x[:, :half] + shift * x[:, half:], x[:, half:]), 1)
    low, high = np.log2(LOWEST / MIDDLE), np.log2(HIGHEST / MIDDLE)
    x = torch.cat((x[:, :half].clamp(low, high) * x[:, half:], x[:, half:]), 1)
    codes = k_means(x, x[torch.randperm(len(x), generator=draw)[: size - 1]], 2 * KMEANS)
    return torch.cat((torch.zeros(1, 2 * half), codes))
