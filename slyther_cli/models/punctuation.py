"""A network that reads words without marks and tells the mark after each, and the case of its letters.

    word pieces -> embedding -> Mamba layers, each with a feed-forward module -> at a word's last piece, two
    linear heads

Both directions see the whole text (BiMamba: Jiang et al. 2024). A causal network walks forward alone and
tells about a word when it has seen ``look_ahead`` more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from slyther_cli.layers.mamba import MambaLayer, MambaState

MARKS = ("", ",", ".", "?", "!", ":", " –")
"""What may stand after a word; a blank parts the dash from it."""
CASES = ("lower", "title", "upper", "mixed")
NONE, COMMA, STOP, QUESTION, EXCLAMATION, COLON, DASH = range(len(MARKS))
TERMINAL = (STOP, QUESTION, EXCLAMATION)
LOWER, TITLE, UPPER, MIXED = range(len(CASES))
TILE = 8192  # pieces that are walked at a time


@dataclass(frozen=True)
class PunctuatorConfig:
    """``vocab``: number of word pieces; ``d_ffn``: width of the feed-forward modules; ``look_ahead``: words
    that a causal network sees of what follows."""

    vocab: int = 6000
    d_model: int = 160
    n_layers: int = 3
    d_state: int = 8
    d_ffn: int = 320
    causal: bool = False
    look_ahead: int = 4


class _Layer(nn.Module):
    """Mamba and a feed-forward module, each residual with a norm before it: [batch, pieces, d_model]."""

    def __init__(self, c: PunctuatorConfig):
        super().__init__()
        self.mamba = MambaLayer(c.d_model, c.d_state, c.causal)
        self.norm = nn.RMSNorm(c.d_model, eps=1e-5)
        self.ffn = nn.Sequential(nn.Linear(c.d_model, c.d_ffn), nn.SiLU(), nn.Linear(c.d_ffn, c.d_model))

    def forward(self, x: Tensor) -> Tensor:
        return self.feed(self.mamba(x))

    def feed(self, x: Tensor) -> Tensor:
        return x + self.ffn(self.norm(x))


class Punctuator(nn.Module):
    """Pieces [batch, length] -> logits of the marks and of the cases at each piece."""

    def __init__(self, config: PunctuatorConfig):
        super().__init__()
        self.config = c = config
        self.embedding = nn.Embedding(c.vocab, c.d_model)
        nn.init.normal_(self.embedding.weight, std=0.5)
        self.layers = nn.ModuleList(_Layer(c) for _ in range(c.n_layers))
        self.norm = nn.RMSNorm(c.d_model, eps=1e-5)
        self.marks = nn.Linear(c.d_model, len(MARKS))
        self.cases = nn.Linear(c.d_model, len(CASES))

    def forward(self, pieces: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, length] -> [batch, length, marks], [batch, length, cases]."""
        x = self.embedding(pieces)
        for layer in self.layers:
            x = layer(x)
        return self.heads(x)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(x)
        return self.marks(x), self.cases(x)

    @torch.inference_mode()
    def step(
        self, pieces: Tensor, states: list[MambaState | None] | None = None
    ) -> tuple[Tensor, Tensor, list[MambaState | None]]:
        """What ``forward`` of a causal network says at further pieces [length]: logits [length, marks] and
        [length, cases]; ``states``: those after the pieces before. Also the states after these."""
        x, after = self.embedding(pieces[None]), list[MambaState | None]()
        for module, state in zip(self.layers, states or [None] * len(self.layers), strict=True):
            layer: Any = module
            x, state = layer.mamba.step(x, state)
            x = layer.feed(x)
            after.append(state)
        marks, cases = self.heads(x)
        return marks[0], cases[0], after

    @torch.inference_mode()
    def read(
        self, pieces: Tensor, at: Tensor, tile: int = TILE, ended: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The likeliest mark and case at the places ``at`` (rising) of a text [length] of any length: int64
        [len(at)] each. What ``forward`` says but for rounding, in memory of two arrays [length, d_model].
        ``ended``: a sentence ends at the last place, by the likeliest of the marks that end one.

        Each layer is walked tile by tile: backward first, where its output is only kept, then forward.
        """
        x = self.embedding(pieces[None])
        kept = torch.empty_like(x) if not self.config.causal else None
        tiles = [slice(i, min(i + tile, len(pieces))) for i in range(0, len(pieces), tile)]
        for module in self.layers:
            layer: Any = module
            mixer, norm = layer.mamba.mixer, layer.mamba.norm
            if kept is not None:
                _walk(mixer, norm, x, kept, tiles[::-1], backward=True)
            state: Any = None
            for span in tiles:
                y, state = mixer.direction(mixer.project(norm(x[:, span])), state)
                y = mixer.out_proj(y)
                mixed = y if kept is None else (y + kept[:, span]) / 2
                x[:, span] = layer.feed(x[:, span] + mixed)
        outputs = [self.heads(x[:, part]) for part in at.split(tile)]
        if ended:
            outputs[-1][0][:, -1, [i for i in range(len(MARKS)) if i not in TERMINAL]] = -torch.inf
        marks, cases = (
            torch.cat([logits.argmax(2)[0] for logits in column]) for column in zip(*outputs, strict=True)
        )
        return marks, cases


def _walk(mixer: Any, norm: Any, x: Tensor, into: Tensor, tiles: list[slice], *, backward: bool) -> None:
    """One direction of a layer, projected, written ``into`` an array like ``x``."""
    state: Any = None
    for span in tiles:
        y, state = mixer.direction(mixer.project(norm(x[:, span])), state, backward=backward)
        into[:, span] = mixer.out_proj(y)
