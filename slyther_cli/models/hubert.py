"""HuBERT, and Mamba-HuBERT: the same with Mamba layers in place of the Transformer's.

Sources: Hsu et al. 2021, "HuBERT", arXiv 2106.07447, as torchaudio defines it (hubert_pretrain_base: 12
post-norm layers, d 768), whose names the parameters carry; Mamba-HuBERT: arXiv 2409.07273, papers.md section
6. Written from these descriptions.

    samples [batch, n] at 16 kHz
      -> seven convolutions, strides 5 2 2 2 2 2 2     features [batch, (n - 400) / 320 + 1, conv_width]
      -> LN, linear to d, what is masked becomes one learnt vector
      -> + a convolution over 128 frames (positions), LN, n_layers layers   [batch, frames, d]
      -> linear to final_dim, cosine with the units' embeddings / 0.1   logits [batch, frames, n_classes]

The first convolution is normed over the whole recording and the layers need it from both ends: it is run in
one pass. A padded batch of features gives what each recording gives alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slyther_cli.layers.attention import length_mask, valid_frames
from slyther_cli.layers.convolution import ConvolutionModule, Named
from slyther_cli.layers.ext_bimamba import ExtBiMamba
from slyther_cli.layers.mamba import Mamba
from slyther_cli.models.conmamba import ffn_module

CONVOLUTIONS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))  # kernel, stride
LAYERS = ("transformer", "conbimamba", "transbimamba")
WINDOW, HOP = 400, 320  # samples that a frame sees; samples from one to the next
TEMPERATURE = 0.1


@dataclass(frozen=True)
class HubertConfig:
    """Sizes; the defaults are HuBERT base. ``layer``: "transformer"; "conbimamba" (a Conformer layer with an
    ExtBiMamba for attention: Mamba-HuBERT) or "transbimamba" (a Transformer layer with one). ``n_heads`` is
    for the first, ``d_state`` and ``kernel_size`` for the others. ``n_classes``: units to be told.

    ``mask_prob`` of the frames would be masked in spans of ``mask_length`` if spans never overlapped.
    ``feature_grad``: what the convolutions get of their gradient.
    """

    layer: str = "transformer"
    conv_width: int = 512
    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_ffn: int = 3072
    d_state: int = 16
    kernel_size: int = 31
    pos_kernel: int = 128
    pos_groups: int = 16
    n_classes: int = 100
    final_dim: int = 256
    dropout: float = 0.1
    layer_drop: float = 0.05
    mask_prob: float = 0.8
    mask_length: int = 10
    feature_grad: float = 0.1
    sample_rate: int = 16000

    def __post_init__(self) -> None:
        if self.layer not in LAYERS:
            raise ValueError(f"layer must be {', '.join(LAYERS)}, not {self.layer!r}")
        if self.layer == "transformer" and self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} is no multiple of n_heads {self.n_heads}")
        if self.d_model % self.pos_groups:
            raise ValueError(f"d_model {self.d_model} is no multiple of pos_groups {self.pos_groups}")
        if not 0 < self.mask_prob <= 1 or not 0 <= self.layer_drop < 1 or not 0 <= self.dropout < 1:
            raise ValueError("mask_prob must be above 0 and at most 1, the drops from 0 to below 1")


# --- from samples to frames ---


class ConvLayer(nn.Module):
    """[batch, channels_in, n] -> [batch, width, (n - kernel) / stride + 1]."""

    def __init__(self, channels_in: int, width: int, kernel: int, stride: int, normed: bool):
        super().__init__()
        self.conv = nn.Conv1d(channels_in, width, kernel, stride, bias=False)
        self.layer_norm = nn.GroupNorm(width, width) if normed else None
        nn.init.kaiming_normal_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return F.gelu(x if self.layer_norm is None else self.layer_norm(x))


class FeatureExtractor(nn.Module):
    """Samples [batch, n] -> [batch, frames, width]; what is shorter than a frame is filled up with zeros."""

    def __init__(self, width: int):
        super().__init__()
        self.conv_layers = nn.ModuleList(
            ConvLayer(width if i else 1, width, *shape, normed=not i) for i, shape in enumerate(CONVOLUTIONS)
        )

    def forward(self, samples: Tensor) -> Tensor:
        x = F.pad(samples, (0, max(0, WINDOW - samples.shape[1])))[:, None]
        for layer in self.conv_layers:
            x = layer(x)
        return x.transpose(1, 2)


class PositionConvolution(nn.Module):
    """[batch, frames, d] -> the same: what lies around a frame. The kernel is stored as its direction and,
    for each of its places, its length (weight norm)."""

    def __init__(self, d: int, kernel: int, groups: int):
        super().__init__()
        self.kernel, self.groups = kernel, groups
        parts = nn.ParameterDict(
            {"original0": torch.empty(1, 1, kernel), "original1": torch.empty(d, d // groups, kernel)}
        )
        self.conv = Named(parametrizations=nn.ModuleDict({"weight": parts}))
        self.conv.bias = nn.Parameter(torch.zeros(d))
        if not parts["original1"].is_meta:
            nn.init.normal_(parts["original1"], 0, (4 / (kernel * d)) ** 0.5)
            parts["original0"].data = _lengths(parts["original1"].data)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.conv.parametrizations["weight"]
        direction = parts["original1"]
        weight = parts["original0"] * direction / _lengths(direction)
        y = F.conv1d(x.transpose(1, 2), weight, self.conv.bias, padding=self.kernel // 2, groups=self.groups)
        return F.gelu(y[..., : x.shape[1]]).transpose(1, 2)


def _lengths(direction: Tensor) -> Tensor:
    return direction.square().sum((0, 1), keepdim=True).sqrt()


# --- layers ---


class Attention(nn.Module):
    def __init__(self, d: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(d, d) for _ in range(4))

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        q, k, v = (
            proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, length_mask(lengths, x.shape[1]), dropout)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """x = LN(x + mixer(x)); x = LN(x + FFN(x)), the mixer attention or an ExtBiMamba. [batch, frames, d] ->
    the same."""

    def __init__(self, c: HubertConfig):
        super().__init__()
        d = c.d_model
        if c.layer == "transformer":
            self.attention: Attention | ExtBiMamba = Attention(d, c.n_heads, c.dropout)
        else:
            self.attention = ExtBiMamba(d, c.d_state)
        self.layer_norm, self.final_layer_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.feed_forward = Named(
            intermediate_dense=nn.Linear(d, c.d_ffn), output_dense=nn.Linear(c.d_ffn, d)
        )
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.layer_norm(x + self.dropout(self.attention(x, lengths)))
        ffn = self.feed_forward
        return self.final_layer_norm(x + self.dropout(ffn.output_dense(F.gelu(ffn.intermediate_dense(x)))))


class ConBiMambaLayer(nn.Module):
    """x += FFN(x) / 2; x += ExtBiMamba(LN(x)); x += Conv(x); x = LN(x + FFN(x) / 2). SiLU throughout; the
    convolution's norm is over channels, as in ConMamba, and not over the batch."""

    def __init__(self, c: HubertConfig):
        super().__init__()
        d = c.d_model
        self.ffn_module1, self.ffn_module2 = (ffn_module(d, c.d_ffn, c.dropout, nn.SiLU) for _ in range(2))
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.mamba = ExtBiMamba(d, c.d_state)
        self.convolution_module = ConvolutionModule(d, c.kernel_size, c.dropout, activation=nn.SiLU)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = x + 0.5 * self.ffn_module1(x)
        x = x + self.dropout(self.mamba(self.norm1(x), lengths))
        x = x + self.convolution_module(x, valid_frames(lengths, x.shape[1]))
        return self.norm2(x + 0.5 * self.ffn_module2(x))


class Encoder(nn.Module):
    """Features [batch, frames, conv_width] -> [batch, frames, d]."""

    def __init__(self, c: HubertConfig):
        super().__init__()
        d, self.layer_drop = c.d_model, c.layer_drop
        self.feature_projection = Named(
            layer_norm=nn.LayerNorm(c.conv_width), projection=nn.Linear(c.conv_width, d)
        )
        kind = ConBiMambaLayer if c.layer == "conbimamba" else Layer
        self.transformer = Named(
            pos_conv_embed=PositionConvolution(d, c.pos_kernel, c.pos_groups),
            layer_norm=nn.LayerNorm(d),
            layers=nn.ModuleList(kind(c) for _ in range(c.n_layers)),
        )
        self.dropout = nn.Dropout(c.dropout)

    def enter(self, features: Tensor) -> Tensor:
        front = self.feature_projection
        return self.dropout(front.projection(front.layer_norm(features)))

    def each(self, x: Tensor, lengths: Tensor | None = None) -> list[Tensor]:
        """What ``enter`` gave, masked or not -> the first layer's input and every layer's output."""
        valid, t = valid_frames(lengths, x.shape[1]), self.transformer
        x = x if valid is None else x * valid
        out = [self.dropout(t.layer_norm(x + t.pos_conv_embed(x)))]
        for layer in t.layers:
            dropped = self.training and self.layer_drop and float(torch.rand(())) <= self.layer_drop
            out.append(out[-1] if dropped else layer(out[-1], lengths))
        return out


# --- the whole ---


class Hubert(nn.Module):
    """Features [batch, frames, conv_width] -> the units' logits [batch, frames, n_classes]."""

    def __init__(self, config: HubertConfig):
        super().__init__()
        c = self.config = config
        self.wav2vec2 = Named(feature_extractor=FeatureExtractor(c.conv_width), encoder=Encoder(c))
        self.mask_generator: Any = nn.Module()
        self.logit_generator: Any = nn.Module()
        self.mask_generator.mask_embedding = nn.Parameter(torch.rand(c.d_model))
        self.logit_generator.label_embeddings = nn.Parameter(torch.rand(c.n_classes, c.final_dim))
        self.logit_generator.final_proj = nn.Linear(c.d_model, c.final_dim)
        _start(self.wav2vec2.encoder)

    def frames(self, samples: int) -> int:
        """Encoder frames of a recording."""
        return frames_of(samples)

    def features(self, samples: Tensor) -> Tensor:
        """[batch, n] in [-1, 1] -> [batch, frames, conv_width]; frame i sees the samples from
        320 i to 320 i + 399."""
        return self.wav2vec2.feature_extractor(samples)

    def each(
        self, features: Tensor, lengths: Tensor | None = None, masked: Tensor | None = None
    ) -> list[Tensor]:
        """The first layer's input and every layer's output, [batch, frames, d] each. ``masked``: bool [batch,
        frames]."""
        x = self.wav2vec2.encoder.enter(features)
        if masked is not None:
            x = torch.where(masked[..., None], self.mask_generator.mask_embedding.to(x.dtype), x)
        return self.wav2vec2.encoder.each(x, lengths)

    def encode(self, features: Tensor, lengths: Tensor | None = None, masked: Tensor | None = None) -> Tensor:
        return self.each(features, lengths, masked)[-1]

    def logits(self, x: Tensor) -> Tensor:
        """[..., d] -> [..., n_classes]"""
        head = self.logit_generator
        x = F.normalize(head.final_proj(x).float(), dim=-1, eps=1e-8)
        return x @ F.normalize(head.label_embeddings.float(), dim=-1, eps=1e-8).T / TEMPERATURE

    def forward(
        self, features: Tensor, lengths: Tensor | None = None, masked: Tensor | None = None
    ) -> Tensor:
        return self.logits(self.encode(features, lengths, masked))


def frames_of(samples: int) -> int:
    """Frames of so many samples."""
    return max(0, samples - WINDOW) // HOP + 1


def _start(encoder: nn.Module) -> None:
    """As HuBERT starts its linear layers: N(0, 0.02) and no bias; a Mamba starts as Mambas do."""
    inside = {id(m) for mamba in encoder.modules() if isinstance(mamba, Mamba) for m in mamba.modules()}
    for m in encoder.modules():
        if isinstance(m, nn.Linear) and id(m) not in inside and not m.weight.is_meta:
            nn.init.normal_(m.weight, 0, 0.02)
            nn.init.zeros_(m.bias)
