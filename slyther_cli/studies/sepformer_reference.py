"""SpeechBrain's SepFormer with random weights: the peer that separation speed is measured against.

Subakan et al. 2021, "Attention is all you need in speech separation", in the size of papers.md 1.3:
25,679,361 parameters, 8 kHz, two speakers. SpeechBrain (Apache-2.0) is a tool of the developers, imported
only here.
"""

from __future__ import annotations

import importlib.util
import sys
import types
import warnings

import torch
from torch import Tensor, nn

PARAMETERS = 25_679_361
HOW_TO_INSTALL = "pip install speechbrain 'torchaudio>=2.11,<2.12'"


def why_not() -> str:
    """Why it cannot run here, with what to do about it; "" where it can."""
    missing = [m for m in ("speechbrain", "torchaudio") if importlib.util.find_spec(m) is None]
    return f"{' and '.join(missing)} not installed: {HOW_TO_INSTALL}" if missing else ""


class SepFormer(nn.Module):
    """Mixture [batch, samples] at 8 kHz -> stems [batch, 2, samples]; weights are random."""

    def __init__(self) -> None:
        super().__init__()
        _stub_torchaudio()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from speechbrain.lobes.models import dual_path

        def transformer() -> nn.Module:
            return dual_path.SBTransformerBlock(
                num_layers=8,
                d_model=256,
                nhead=8,
                d_ffn=1024,
                dropout=0,
                use_positional_encoding=True,
                norm_before=True,
            )

        self.encoder = dual_path.Encoder(kernel_size=16, out_channels=256)
        self.masknet = dual_path.Dual_Path_Model(
            num_spks=2,
            in_channels=256,
            out_channels=256,
            num_layers=2,
            K=250,
            intra_model=transformer(),
            inter_model=transformer(),
            norm="ln",
            linear_layer_after_inter_intra=False,
            skip_around_intra=True,
        )
        self.decoder = dual_path.Decoder(
            in_channels=256, out_channels=1, kernel_size=16, stride=8, bias=False
        )

    def forward(self, mixture: Tensor) -> Tensor:
        w = self.encoder(mixture)
        masks = self.masknet(w)  # [2, batch, 256, frames]
        stems = torch.stack([self.decoder(w * mask) for mask in masks], 1)
        missing = mixture.shape[-1] - stems.shape[-1]
        return nn.functional.pad(stems, (0, missing))  # cuts where it is negative


def _stub_torchaudio() -> None:
    """Let torchaudio be imported beside a torch without CUDA, which its compiled half needs; none of it is
    used."""
    if "torchaudio" in sys.modules or torch.version.cuda is not None:
        return
    stub = types.ModuleType("torchaudio._extension")
    stub.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        fail_if_no_align=lambda function: function,
    )
    sys.modules["torchaudio._extension"] = stub
