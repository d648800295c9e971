"""What listeners would think of a sound, as a network predicts it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable

import numpy as np
import torch

from slyther_cli.audio.torchaudio_compat import torchaudio


def opinion_measure() -> Callable[[np.ndarray], float] | None:
    """``mos(samples)``, float32 [n] at 16 kHz: the mean opinion, 1 to 5, that DistillMOS (Stahl and Gamper
    2025) predicts, or None where the package distillmos is not installed."""
    torchaudio()
    try:
        from distillmos import ConvTransformerSQAModel
    except ImportError:
        return None
    with contextlib.redirect_stdout(sys.stderr):  # it tells where its weights are
        model = ConvTransformerSQAModel().eval()

    @torch.inference_mode()
    def mos(samples: np.ndarray) -> float:
        return float(model(torch.from_numpy(samples).float()[None]))

    return mos
