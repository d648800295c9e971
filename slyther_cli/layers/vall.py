"""The layers of VALL-M: Mamba, then a feed-forward part, each behind a norm (papers.md 4.4).

``x += Mamba(RMSNorm(x)); x += FFN(RMSNorm(x))`` as the figure "Mamba encoder layers" of Speech Slytherin
draws it. In the second stage the norms are conditioned on the codebook to be predicted, as the open VALL-E's
are (papers.md 4.3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slyther_cli.layers.attention import FeedForward
from slyther_cli.layers.mamba import BiMamba, Mamba, MambaState

States = list[MambaState | None]


class LevelNorm(nn.Module):
    """RMSNorm (or LayerNorm) whose gain and bias depend on a level; without levels an ordinary one."""

    def __init__(self, d: int, levels: int = 0, norm: type[nn.Module] = nn.RMSNorm):
        super().__init__()
        self.norm = norm(d, eps=1e-5)
        self.level = nn.Embedding(levels, 2 * d) if levels else None
        if self.level is not None:
            nn.init.zeros_(self.level.weight)

    def forward(self, x: Tensor, level: Tensor | None = None) -> Tensor:
        """[batch, length, d]; ``level`` [batch], from 0."""
        x = self.norm(x)
        if self.level is None or level is None:
            return x
        gain, bias = self.level(level)[:, None].chunk(2, -1)
        return x * (1 + gain) + bias


class VallLayer(nn.Module):
    """[batch, length, d] -> the same. ``causal``: UniMamba, else BiMamba."""

    def __init__(self, d: int, d_ffn: int, d_state: int, dropout: float, causal: bool, levels: int = 0):
        super().__init__()
        self.norm1, self.norm2 = LevelNorm(d, levels), LevelNorm(d, levels)
        self.mixer: Mamba | BiMamba = Mamba(d, d_state) if causal else BiMamba(d, d_state)
        self.ffn = FeedForward(d, d_ffn, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None, level: Tensor | None = None) -> Tensor:
        x = x + self.dropout(self._mixed(self.norm1(x, level), lengths))
        return x + self.dropout(self.ffn(self.norm2(x, level)))

    def step(self, x: Tensor, state: MambaState | None) -> tuple[Tensor, MambaState]:
        """Causal only: the next frames, any number of them."""
        y, state = self.mixer.step(self.norm1(x), state)
        x = x + y
        return x + self.ffn(self.norm2(x)), state

    def _mixed(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Padding on the right does not change what comes before it: walking left, it comes last."""
        if lengths is None or not isinstance(self.mixer, BiMamba):
            return self.mixer(x)
        xz = self.mixer.project(x)
        gap = x.shape[1] - lengths
        back = self.mixer.direction((rolled(xz[0], gap), rolled(xz[1], gap)), backward=True)[0]
        return self.mixer.combine(self.mixer.direction(xz)[0], rolled(back, -gap))


class VallStack(nn.Module):
    """``n_layers`` of them and a last norm. [batch, length, d] -> the same."""

    def __init__(
        self,
        d: int,
        n_layers: int,
        d_ffn: int,
        d_state: int = 16,
        dropout: float = 0.1,
        causal: bool = False,
        levels: int = 0,
    ):
        super().__init__()
        self.layers = nn.ModuleList(
            VallLayer(d, d_ffn, d_state, dropout, causal, levels) for _ in range(n_layers)
        )
        self.norm_f = LevelNorm(d, levels)

    def forward(self, x: Tensor, lengths: Tensor | None = None, level: Tensor | None = None) -> Tensor:
        """``lengths`` [batch]: how much of each row counts; the rest, on the right, is padding."""
        for layer in self.layers:
            x = layer(x, lengths, level)
        return self.norm_f(x, level)

    def step(self, x: Tensor, states: States | None) -> tuple[Tensor, States]:
        """Causal only: the next frames; ``states``, one a layer and constant in size, None at the start."""
        after: States = []
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, VallLayer)
            x, state = layer.step(x, states[i] if states else None)
            after.append(state)
        return self.norm_f(x), after


def rolled(x: Tensor, by: Tensor) -> Tensor:
    """[batch, length, d], row ``i`` rotated to the right by ``by[i]`` frames."""
    at = (torch.arange(x.shape[1], device=x.device) - by[:, None]) % x.shape[1]
    return x.gather(1, at[..., None].expand(-1, -1, x.shape[2]))
