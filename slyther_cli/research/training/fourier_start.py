"""Where the training of a separator begins: a filterbank that analyses and synthesises perfectly (ours, not
the papers')."""

from __future__ import annotations

from typing import Any

import torch


def start_from_fourier(model: Any) -> None:
    """Initialise a separator's encoder and decoder as a tight windowed Fourier pair, not noise.

    Each sine and cosine of a sqrt-Hann window comes twice, with both signs, so that the ReLU loses nothing:
    relu(v) - relu(-v) = v. Training then starts from a perfect analysis and synthesis (measured in
    docs/training.md). Filters beyond the basis stay random and are not yet heard.
    """
    encoder, decoder = model.encoder, model.decoder
    k = encoder.kernel_size
    n = torch.arange(k, dtype=torch.float64)
    window = torch.sin(torch.pi * (n + 0.5) / k)  # the root of Hann's: its squares sum to one
    edge = {0: 0.5, k // 2: 0.5}  # the constant and the Nyquist row have half the energy
    rows = [
        torch.cos(2 * torch.pi * f * n / k) * (2 / k * edge.get(f, 1.0)) ** 0.5 for f in range(k // 2 + 1)
    ]
    rows += [torch.sin(2 * torch.pi * f * n / k) * (2 / k) ** 0.5 for f in range(1, k // 2)]
    basis = torch.stack(rows) * window  # [k, k]
    count = min(encoder.conv1d.out_channels // 2, k)
    with torch.no_grad():
        enc, dec = encoder.conv1d.weight.squeeze(1), decoder.weight.squeeze(1)
        dec.zero_()
        enc[:count] = basis[:count].float()
        enc[count : 2 * count] = -basis[:count].float()
        once = basis[:count].float() * (2 / encoder.overlap)  # a sample is in so many frames
        dec[:count], dec[count : 2 * count] = once, -once
