"""VALL-E: the Transformer that VALL-M is compared with, under the same interface.

Source: Wang et al. 2023, "Neural Codec Language Models are Zero-Shot Text to Speech Synthesizers"; what that
leaves open as in papers.md 4.2 and 4.3. Two stages of 12 layers, width 1024, 16 heads. The first says
codebook 1 frame by frame with a cache of keys and values, which grows with what was said; the second fills
in the other codebooks. ``begin``, ``step``, ``prompted``, ``next_logits`` and ``losses`` are VALL-M's.

Where both could differ without need, it follows VALL-M here: one text table for both stages, a gain and bias
of the second stage's norms for each level, heads of their own (the open VALL-E shares all but one head with
the codes' tables).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slyther_cli.layers.prefix import PrefixStack
from slyther_cli.models.vall_m import VallM, join


@dataclass(frozen=True)
class VallEConfig:
    """As :class:`~slyther_cli.models.vall_m.VallMConfig`, with ``n_heads`` of attention."""

    alphabet: str = "espeak"
    n_symbols: int = 512
    d_model: int = 1024
    d_ffn: int = 4096
    n_heads: int = 16
    n_layers: int = 12
    n_nar_layers: int = 12
    n_codebooks: int = 8
    codebook_size: int = 1024
    dropout: float = 0.1
    codec: str = "encodec-24khz"
    sample_rate: int = 24_000
    frame_rate: int = 75

    conditioning: ClassVar[str] = "prefix"

    def __post_init__(self) -> None:
        if self.n_codebooks < 2 or not 0 <= self.dropout < 1:
            raise ValueError("n_codebooks must be 2 or more, dropout from 0 to below 1")


class VallE(VallM):
    """Both stages. The states of a ``Context`` are a ``PrefixState``."""

    config: Any

    def stack(self, n_layers: int, causal: bool = False, levels: int = 0) -> PrefixStack:
        c = self.config
        return PrefixStack(c.d_model, n_layers, c.n_heads, c.d_ffn, c.dropout, causal, levels)

    def after_text(
        self,
        stage: nn.Module,
        text: Tensor,
        n_symbols: Tensor | None,
        audio: Tensor,
        n_frames: Tensor | None,
        level: Tensor | None = None,
    ) -> Tensor:
        assert isinstance(stage, PrefixStack)
        joined, places = join(stage.place(text, 0), n_symbols, stage.place(audio, 1), n_frames)
        if n_symbols is None:
            n_symbols = torch.full((len(text),), text.shape[1], device=text.device)
        every = None if n_frames is None else n_symbols + n_frames
        y = stage(joined, n_symbols, every, level)
        return y.gather(1, places[..., None].expand(-1, -1, y.shape[2]))
