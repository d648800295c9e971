"""The codec: speech as tokens and back. encodec's SEANet encoder and decoder around its residual vector
quantizer; EnCodec 24 kHz with the official weights and our own small 16 kHz codec are settings of it.

Source: Defossez et al. 2022, High Fidelity Neural Audio Compression (arXiv 2210.13438). Convolutions carry
plain weights: the official ones' weight normalisation is resolved when they are imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from slyther_cli.audio.torchaudio_compat import encodec
from slyther_cli.errors import ModelError
from slyther_cli.layers.seanet import empty_like, piecewise


@dataclass(frozen=True)
class CodecConfig:
    """``ratios``: the decoder's upsampling factors in order; their product is the hop, the samples of a
    frame. ``pad``: "reflect" (EnCodec) or "constant", what a convolution sees beyond the ends. ``lstm``: two
    LSTM layers at the narrowest place of encoder and decoder (EnCodec)."""

    sample_rate: int = 16_000
    n_filters: int = 16
    dimension: int = 128
    ratios: list[int] = field(default_factory=lambda: [8, 5, 4, 2])
    n_codebooks: int = 8
    codebook_size: int = 1024
    lstm: bool = False
    pad: str = "constant"
    compress: int = 2

    def __post_init__(self) -> None:
        if not 1 <= len(self.ratios) <= 8 or not all(type(r) is int and 1 <= r <= 64 for r in self.ratios):
            raise ValueError("ratios must be 1 to 8 whole numbers from 1 to 64")
        if self.pad not in ("reflect", "constant"):
            raise ValueError(f'pad must be "reflect" or "constant", not {self.pad!r}')
        if self.n_codebooks > 64 or self.n_filters * 2 ** len(self.ratios) > 16_384:
            raise ValueError("more than 64 codebooks, or a network wider than 16,384 channels")


class Codec(nn.Module):
    """Samples in [-1, 1] at ``sample_rate`` Hz to ``n_codebooks`` tokens below ``codebook_size`` in each of
    ``frame_rate`` frames a second, and back. Both directions are causal."""

    def __init__(self, config: CodecConfig):
        super().__init__()
        encodec()
        from encodec.modules import SEANetDecoder, SEANetEncoder
        from encodec.quantization import ResidualVectorQuantizer

        c = self.config = config
        network: dict[str, Any] = {
            "dimension": c.dimension,
            "n_filters": c.n_filters,
            "ratios": list(c.ratios),
            "norm": "none",
            "causal": True,
            "pad_mode": c.pad,
            "compress": c.compress,
            "lstm": 2 if c.lstm else 0,
        }
        self.encoder = SEANetEncoder(**network)
        self.decoder = SEANetDecoder(**network)
        self.quantizer = ResidualVectorQuantizer(
            dimension=c.dimension, n_q=c.n_codebooks, bins=c.codebook_size, kmeans_init=False
        )
        for layer in self.quantizer.vq.layers:  # statistics of encodec's own training: not of the model
            codebook: Any = layer._codebook
            for name in ("inited", "cluster_size", "embed_avg"):
                codebook.register_buffer(name, getattr(codebook, name), persistent=False)
        self.hop = 1
        for ratio in c.ratios:
            self.hop *= ratio

    @property
    def sample_rate(self) -> int:
        return self.config.sample_rate

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.config.sample_rate / self.hop

    @property
    def n_codebooks(self) -> int:
        return self.config.n_codebooks

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    @torch.inference_mode()
    def encode(self, samples: Tensor, n_codebooks: int | None = None) -> Tensor:
        """[batch, n] -> codes [batch, n_codebooks, ceil(n / hop)], int64; all codebooks, or the first of
        them."""
        if not samples.shape[1]:
            return self._codes(empty_like(self, len(samples), self.config.dimension), n_codebooks)
        return self._codes(self.encoder(samples[:, None].float()), n_codebooks)

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """[batch, k, frames] of the first k codebooks, k from 1 -> samples [batch, frames * hop].

        Raises :class:`ModelError`: codes that this codec does not have."""
        if not codes.shape[2]:
            return empty_like(self, len(codes), 1)[:, 0]
        return self.decoder(self.embed(codes))[:, 0]

    def _codes(self, frames: Tensor, n_codebooks: int | None = None) -> Tensor:
        """[batch, dimension, frames] -> [batch, k, frames]."""
        k = n_codebooks or self.n_codebooks
        if not 1 <= k <= self.n_codebooks:
            raise ModelError(f"this codec has {self.n_codebooks} codebooks, not {k}")
        if not frames.shape[2]:
            return torch.zeros(len(frames), k, 0, dtype=torch.int64, device=frames.device)
        return self.quantizer.vq.encode(frames, n_q=k).transpose(0, 1).contiguous()

    def embed(self, codes: Tensor) -> Tensor:
        """[batch, k, frames] -> the sum of their code vectors [batch, dimension, frames]."""
        if not 1 <= codes.shape[1] <= self.n_codebooks:
            raise ModelError(f"this codec has {self.n_codebooks} codebooks, not {codes.shape[1]}")
        if int(codes.min()) < 0 or int(codes.max()) >= self.codebook_size:
            raise ModelError(f"a code is out of bounds: this codec's are 0 to {self.codebook_size - 1}")
        return self.quantizer.vq.decode(codes.transpose(0, 1))


class CodecEncoder:
    """A long signal encoded piece by piece; the pieces together equal :meth:`Codec.encode` of the whole."""

    def __init__(self, codec: Codec, n_codebooks: int | None = None, batch: int = 1):
        self.codec, self.n_codebooks, self.batch = codec, n_codebooks, batch
        self.network, self.any = piecewise(codec.encoder.model), False

    @torch.inference_mode()
    def push(self, samples: Tensor) -> Tensor:
        """The next samples [batch, any length] -> the codes that they complete [batch, k, frames]."""
        if samples.shape[1]:
            self.any = True
            frames = self.network(samples[:, None].float(), False)
        else:
            frames = empty_like(self.codec, self.batch, self.codec.config.dimension)
        return self.codec._codes(frames, self.n_codebooks)

    @torch.inference_mode()
    def finish(self) -> Tensor:
        """The codes that were still held back: those of the last, unfilled frame, and of a short start."""
        frames = empty_like(self.codec, self.batch, self.codec.config.dimension)
        if self.any:
            frames = self.network(empty_like(self.codec, self.batch, 1), True)
        return self.codec._codes(frames, self.n_codebooks)


class CodecDecoder:
    """A long row of codes decoded piece by piece; the pieces together equal :meth:`Codec.decode` of all.

    With ``pad`` "reflect" the first samples come out once 7 frames are in; from then on, and with "constant"
    from the start, ``hop`` samples a frame."""

    def __init__(self, codec: Codec, batch: int = 1):
        self.codec, self.batch = codec, batch
        self.network, self.any = piecewise(codec.decoder.model), False

    @torch.inference_mode()
    def push(self, codes: Tensor) -> Tensor:
        """The next codes [batch, k, any length] -> samples [batch, n]."""
        if not codes.shape[2]:
            return empty_like(self.codec, self.batch, 1)[:, 0]
        self.any = True
        return self.network(self.codec.embed(codes), False)[:, 0]

    @torch.inference_mode()
    def finish(self) -> Tensor:
        """The samples that were still held back [batch, n]."""
        if not self.any:
            return empty_like(self.codec, self.batch, 1)[:, 0]
        return self.network(empty_like(self.codec, self.batch, self.codec.config.dimension), True)[:, 0]
