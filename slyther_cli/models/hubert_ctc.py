"""A recogniser on a HuBERT: its layers, weighed, then a Conformer, a ConMamba or nothing, then a CTC head.

Source: papers.md section 6 (2409.07273: Mamba-HuBERT alone, and with a Conformer on top); the weighed sum of
all layers is SUPERB's (Yang et al. 2021), as ESPnet has it. The methods are those of ``ConMamba``:
where that has mel bands at 10 ms, this has the HuBERT's convolutions at 20 ms, which never learn here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slyther_cli.layers.convolution import Named
from slyther_cli.models.conformer import ConformerConfig, ConformerEncoder
from slyther_cli.models.conmamba import ConMamba, ConMambaConfig, ConMambaEncoder
from slyther_cli.models.hubert import HOP, Encoder, FeatureExtractor, Hubert, HubertConfig, frames_of

TOPS = ("none", "conformer", "conmamba")


@dataclass(frozen=True)
class HubertCtcConfig(HubertConfig):
    """A HuBERT's sizes and: ``top`` "none", "conformer" or "conmamba" of ``n_top_layers`` with ``top_heads``
    and ``top_ffn``; ``frozen`` leaves the HuBERT as it was pre-trained; ``vocab`` tokens."""

    top: str = "none"
    n_top_layers: int = 4
    top_heads: int = 4
    top_ffn: int = 576
    frozen: bool = True
    vocab: int = 31
    decoder: str = "none"

    hop: ClassVar[int] = HOP
    causal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top not in TOPS:
            raise ValueError(f"top must be {', '.join(TOPS)}, not {self.top!r}")
        if self.decoder != "none":
            raise ValueError('a recogniser on a HuBERT has no decoder: decoder = "none"')


class Bands(nn.Module):
    """What other recognisers do to mel bands; a HuBERT norms by itself."""

    def forward(self, features: Tensor) -> Tensor:
        return features

    def fit(self, examples: Iterable[Tensor]) -> None:
        """Nothing to be learnt from examples."""

    def frames(self, features: Any) -> Any:
        """Encoder frames of so many frames of features."""
        return features


class HubertCtc(nn.Module):
    """Features [batch, frames, conv_width] -> CTC logits [batch, frames, vocab], a frame every 20 ms."""

    takes_whole, attends, has_decoder = True, False, False

    def __init__(self, config: HubertCtcConfig):
        super().__init__()
        c = self.config = config
        d = c.d_model
        self.wav2vec2 = Named(feature_extractor=FeatureExtractor(c.conv_width), encoder=Encoder(c))
        self.layer_weights = nn.Parameter(torch.zeros(c.n_layers + 1))
        self.normalize, self.frontend = Bands(), Bands()
        self.enter_top: nn.Module | None = None
        if c.top != "none":
            shared = {"d_model": d, "n_layers": c.n_top_layers, "d_ffn": c.top_ffn, "dropout": c.dropout}
            top: nn.Module = (
                ConformerEncoder(ConformerConfig(n_heads=c.top_heads, decoder="none", **shared))  # type: ignore[arg-type]
                if c.top == "conformer"
                else ConMambaEncoder(ConMambaConfig(d_state=c.d_state, decoder="none", **shared))  # type: ignore[arg-type]
            )
            self.enter_top = nn.Linear(d, d)
            self.transformer = Named(encoder=top)
        self.ctc_lin = Named(w=nn.Linear(d, c.vocab))
        self.wav2vec2.feature_extractor.requires_grad_(False)
        self.wav2vec2.encoder.requires_grad_(not c.frozen)

    def take(self, hubert: Hubert) -> None:
        """The weights of a pre-trained HuBERT of the same sizes."""
        self.wav2vec2.load_state_dict(hubert.wav2vec2.state_dict())

    def top_layers(self) -> list[nn.Module]:
        return [] if self.enter_top is None else list(self.transformer.encoder.layers)

    def frames(self, samples: int) -> int:
        """Encoder frames of a recording."""
        return frames_of(samples)

    def fbank(self, samples: Tensor) -> Tensor:
        """[batch, n] -> [batch, frames, conv_width]; no gradients."""
        with torch.no_grad():
            return self.wav2vec2.feature_extractor(samples)

    features = fbank

    def encode(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``lengths`` [batch]: frames of each recording in a padded batch -> [batch, frames, d]."""
        encoder: Any = self.wav2vec2.encoder
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.frozen):
            layers = encoder.each(encoder.enter(features), lengths)
        shares = self.layer_weights.softmax(0)
        x = sum(share * layer for share, layer in zip(shares, layers, strict=True))
        if self.enter_top is None:
            return x  # type: ignore[return-value]
        return self.transformer.encoder(self.enter_top(x), lengths)

    def ctc(self, memory: Tensor) -> Tensor:
        return self.ctc_lin.w(memory)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.ctc(self.encode(features, lengths))

    def train(self, mode: bool = True) -> HubertCtc:
        """A frozen HuBERT drops nothing."""
        super().train(mode)
        if self.config.frozen:
            self.wav2vec2.eval()
        return self

    def start_from_s4d(self) -> None:
        """As ``ConMamba``'s, of the layers on top; a HuBERT's layers start so anyway."""
        if self.enter_top is not None:
            ConMamba.start_from_s4d(self.transformer)  # type: ignore[arg-type]


def sizes_of(hubert: HubertConfig) -> dict[str, Any]:
    """The settings that a recogniser on this HuBERT has from it."""
    known = {f.name for f in fields(HubertCtcConfig)}
    return {key: value for key, value in asdict(hubert).items() if key in known}
