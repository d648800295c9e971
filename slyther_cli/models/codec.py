"""Codecs: speech as tokens and back. An encoder that makes frames of samples, encodec's residual vector
quantizer that writes a frame as a token of each of its codebooks, and a decoder.

:class:`SeanetCodec` is EnCodec 24 kHz, with the official weights; :class:`HarmonicCodec` is ours: it codes
the pitch and log mel frames, which say nothing of phase, so that a voice has less to predict;
:class:`SpectralCodec`, its predecessor without pitch, is the codec of the shipped voice. Convolutions
carry plain weights: the official ones' weight normalisation is resolved when they are imported. Sources:
Defossez et al. 2022, High Fidelity Neural Audio Compression (arXiv 2210.13438), and those of
:mod:`slyther_cli.layers.harmonic`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from slyther_cli.audio.torchaudio_compat import encodec
from slyther_cli.errors import ModelError
from slyther_cli.layers.harmonic import HarmonicPieces, HarmonicWriter
from slyther_cli.layers.mel import MelFrames
from slyther_cli.layers.overlapping import Overlapping
from slyther_cli.layers.pitch import PitchTracker
from slyther_cli.layers.quantizer import nearest
from slyther_cli.layers.seanet import Piecewise, empty_like, piecewise
from slyther_cli.layers.vocoder import SpectrumWriter


class Codec(nn.Module):
    """Samples in [-1, 1] at ``sample_rate`` Hz to ``n_codebooks`` tokens below ``codebook_size`` in each of
    ``frame_rate`` frames a second, and back. ``encoder``: [batch, 1, n] -> [batch, dimension, ceil(n / hop)];
    ``decoder``: back to [batch, 1, frames * hop]."""

    encoder: nn.Module
    decoder: nn.Module

    def __init__(self, sample_rate: int, hop: int, dimension: int, n_codebooks: int, codebook_size: int):
        super().__init__()
        self.sample_rate, self.hop, self.dimension = sample_rate, hop, dimension
        self.n_codebooks, self.codebook_size = n_codebooks, codebook_size
        encodec()
        from encodec.quantization import ResidualVectorQuantizer

        self.quantizer = ResidualVectorQuantizer(
            dimension=dimension, n_q=n_codebooks, bins=codebook_size, kmeans_init=False
        )
        for layer in self.quantizer.vq.layers:  # statistics of encodec's own training: not of the model
            codebook: Any = layer._codebook
            for name in ("inited", "cluster_size", "embed_avg"):
                codebook.register_buffer(name, getattr(codebook, name), persistent=False)

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop

    def pieces(self) -> tuple[Piecewise, Piecewise]:
        """Encoder and decoder for a signal that comes in pieces, at its start."""
        raise NotImplementedError

    @torch.inference_mode()
    def encode(self, samples: Tensor, n_codebooks: int | None = None) -> Tensor:
        """[batch, n] -> codes [batch, n_codebooks, ceil(n / hop)], int64; all codebooks, or the first of
        them."""
        if not samples.shape[1]:
            return self._codes(empty_like(self, len(samples), self.dimension), n_codebooks)
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
        k = self.n_codebooks if n_codebooks is None else n_codebooks
        if not 1 <= k <= self.n_codebooks:
            raise ModelError(f"this codec has {self.n_codebooks} codebooks, not {k}")
        if not frames.shape[2]:
            return torch.zeros(len(frames), k, 0, dtype=torch.int64, device=frames.device)
        return self._quantize(frames, k)

    def _quantize(self, frames: Tensor, k: int) -> Tensor:
        """[batch, dimension, frames], one frame or more -> the first k codes of each [batch, k, frames]."""
        return self.quantizer.vq.encode(frames, n_q=k).transpose(0, 1).contiguous()

    def embed(self, codes: Tensor) -> Tensor:
        """[batch, k, frames] -> the sum of their code vectors [batch, dimension, frames]."""
        if not 1 <= codes.shape[1] <= self.n_codebooks:
            raise ModelError(f"this codec has {self.n_codebooks} codebooks, not {codes.shape[1]}")
        if int(codes.min()) < 0 or int(codes.max()) >= self.codebook_size:
            raise ModelError(f"a code is out of bounds: this codec's are 0 to {self.codebook_size - 1}")
        return self._embed(codes)

    def _embed(self, codes: Tensor) -> Tensor:
        return self.quantizer.vq.decode(codes.transpose(0, 1))


@dataclass(frozen=True)
class SeanetCodecConfig:
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


class SeanetCodec(Codec):
    """encodec's SEANet on both sides. Both directions are causal."""

    def __init__(self, config: SeanetCodecConfig):
        c = self.config = config
        hop = 1
        for ratio in c.ratios:
            hop *= ratio
        super().__init__(c.sample_rate, hop, c.dimension, c.n_codebooks, c.codebook_size)
        from encodec.modules import SEANetDecoder, SEANetEncoder

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
        self.encoder: Any = SEANetEncoder(**network)
        self.decoder: Any = SEANetDecoder(**network)

    def pieces(self) -> tuple[Piecewise, Piecewise]:
        return piecewise(self.encoder.model), piecewise(self.decoder.model)


@dataclass(frozen=True)
class SpectralCodecConfig:
    """``hop``: samples of a frame, ``per_frame``: how many spectra of ``n_mels`` bands it holds. The decoder
    has ``n_layers`` ConvNeXt blocks of width ``d_model``."""

    sample_rate: int = 16_000
    hop: int = 320
    per_frame: int = 2
    n_mels: int = 80
    d_model: int = 256
    d_ffn: int = 768
    n_layers: int = 6
    n_codebooks: int = 8
    codebook_size: int = 1024

    def __post_init__(self) -> None:
        if self.n_codebooks > 64 or self.hop % self.per_frame or self.hop // self.per_frame < 8:
            raise ValueError(
                "more than 64 codebooks, or a hop that is not per_frame steps of 8 samples or more"
            )
        if self.n_mels > 2 * self.hop // self.per_frame:
            raise ValueError("more mel bands than the spectrum has bins")


class SpectralCodec(Codec):
    """Log mel frames, quantized; a network writes the spectrum that they were made of, with phases. A frame's
    samples depend on ``decoder.reach`` frames on either side."""

    def __init__(self, config: SpectralCodecConfig):
        c = self.config = config
        super().__init__(c.sample_rate, c.hop, c.per_frame * c.n_mels, c.n_codebooks, c.codebook_size)
        self.encoder: MelFrames = MelFrames(c.sample_rate, c.hop, c.per_frame, c.n_mels)
        self.decoder: SpectrumWriter = SpectrumWriter(self.encoder, c.d_model, c.d_ffn, c.n_layers)

    def pieces(self) -> tuple[Piecewise, Piecewise]:
        around = -(-self.encoder.size // self.hop) * self.hop
        return (
            Overlapping(self.encoder, self.dimension, unit=self.hop, made=1, margin=around),
            Overlapping(self.decoder, 1, unit=1, made=self.hop, margin=self.decoder.reach),
        )


@dataclass(frozen=True)
class HarmonicCodecConfig:
    """``hop``: samples of a frame, ``per_frame``: how many spectra of ``n_mels`` bands it holds. The decoder
    has ``n_layers`` ConvNeXt blocks of width ``d_model``, the pitch tracker ``n_pitch_layers`` of width
    ``d_pitch``. The first of ``n_codebooks`` says the pitch."""

    sample_rate: int = 16_000
    hop: int = 320
    per_frame: int = 2
    n_mels: int = 80
    d_model: int = 256
    d_ffn: int = 1024
    n_layers: int = 8
    d_pitch: int = 128
    n_pitch_layers: int = 4
    n_codebooks: int = 9
    codebook_size: int = 1024

    def __post_init__(self) -> None:
        if not 2 <= self.n_codebooks <= 64:
            raise ValueError("n_codebooks must be 2 to 64")
        if self.hop % (2 * self.per_frame) or self.hop // self.per_frame < 16:
            raise ValueError("hop must be per_frame steps of an even number of samples, 16 or more")
        if self.n_mels > self.hop // self.per_frame:
            raise ValueError("more mel bands than the spectrum has bins")


class MelAndPitch(nn.Module):
    """[batch, 1, n] -> [batch, per_frame * (n_mels + 2), ceil(n / hop)]: mel frames, then pitch."""

    def __init__(self, mel: MelFrames, pitch: PitchTracker):
        super().__init__()
        self.mel, self.pitch = mel, pitch

    def forward(self, x: Tensor) -> Tensor:
        mel = self.mel(x)
        return torch.cat((mel, self.pitch(x).to(mel.dtype)), 1)


class HarmonicCodec(Codec):
    """Log mel frames and the pitch, quantized apart; a network filters pulses at that pitch and noise.

    Codebook 1 says the pitch, the others the spectrum. A frame's samples depend on ``decoder.reach`` frames
    on either side, and on the pitch since the start: pulses have a phase."""

    pitch_codes: Tensor

    def __init__(self, config: HarmonicCodecConfig):
        c = self.config = config
        super().__init__(c.sample_rate, c.hop, c.per_frame * c.n_mels, c.n_codebooks - 1, c.codebook_size)
        self.n_codebooks = c.n_codebooks
        self.bands, self.dimension = self.dimension, c.per_frame * (c.n_mels + 2)
        mel = MelFrames(c.sample_rate, c.hop, c.per_frame, c.n_mels)
        self.encoder: MelAndPitch = MelAndPitch(
            mel, PitchTracker(c.sample_rate, c.hop, c.per_frame, c.d_pitch, c.n_pitch_layers)
        )
        self.decoder: HarmonicWriter = HarmonicWriter(
            mel, c.sample_rate, c.n_mels, c.d_model, c.d_ffn, c.n_layers
        )
        self.register_buffer("pitch_codes", torch.zeros(c.codebook_size, 2 * c.per_frame))

    def pieces(self) -> tuple[Piecewise, Piecewise]:
        around = -(-max(self.encoder.mel.size, self.encoder.pitch.margin) // self.hop) * self.hop
        return (
            Overlapping(self.encoder, self.dimension, unit=self.hop, made=1, margin=around),
            HarmonicPieces(self.decoder),
        )

    def pitch_code(self, pitch: Tensor) -> Tensor:
        """[batch, 2 * per_frame, frames], pitch as the tracker tells it -> codes [batch, frames]."""
        return nearest(pitch.transpose(1, 2).flatten(0, 1), self.pitch_codes).view(len(pitch), -1)

    def pitch_of(self, codes: Tensor) -> Tensor:
        """Codes [batch, frames] of the first codebook -> pitch [batch, 2 * per_frame, frames]."""
        return self.pitch_codes[codes].transpose(1, 2)

    def _quantize(self, frames: Tensor, k: int) -> Tensor:
        first = self.pitch_code(frames[:, self.bands :])[:, None]
        if k == 1:
            return first
        rest = self.quantizer.vq.encode(frames[:, : self.bands], n_q=k - 1).transpose(0, 1)
        return torch.cat((first, rest), 1)

    def _embed(self, codes: Tensor) -> Tensor:
        pitch = self.pitch_of(codes[:, 0])
        if codes.shape[1] == 1:
            return torch.cat((pitch.new_zeros(len(codes), self.bands, codes.shape[2]), pitch), 1)
        return torch.cat((self.quantizer.vq.decode(codes[:, 1:].transpose(0, 1)), pitch), 1)


class CodecEncoder:
    """A long signal encoded piece by piece; the pieces together equal :meth:`Codec.encode` of the whole."""

    def __init__(self, codec: Codec, n_codebooks: int | None = None, batch: int = 1):
        self.codec, self.n_codebooks, self.batch = codec, n_codebooks, batch
        self.network, self.any = codec.pieces()[0], False

    @torch.inference_mode()
    def push(self, samples: Tensor) -> Tensor:
        """The next samples [batch, any length] -> the codes that they complete [batch, k, frames]."""
        if samples.shape[1]:
            self.any = True
            frames = self.network(samples[:, None].float(), False)
        else:
            frames = empty_like(self.codec, self.batch, self.codec.dimension)
        return self.codec._codes(frames, self.n_codebooks)

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """The codes that were still held back: those of the last, unfilled frame, and of a short start."""
        frames = empty_like(self.codec, self.batch, self.codec.dimension)
        if self.any:
            frames = self.network(empty_like(self.codec, self.batch, 1), True)
        return self.codec._codes(frames, self.n_codebooks)


class CodecDecoder:
    """A long row of codes decoded piece by piece; the pieces together equal :meth:`Codec.decode` of all.

    A SEANet's samples come with their frame, with ``pad`` "reflect" once 7 frames are in; a harmonic codec's
    ``decoder.reach`` frames later."""

    def __init__(self, codec: Codec, batch: int = 1):
        self.codec, self.batch = codec, batch
        self.network, self.any = codec.pieces()[1], False

    @torch.inference_mode()
    def push(self, codes: Tensor) -> Tensor:
        """The next codes [batch, k, any length] -> samples [batch, n]."""
        if not codes.shape[2]:
            return empty_like(self.codec, self.batch, 1)[:, 0]
        self.any = True
        return self.network(self.codec.embed(codes), False)[:, 0]

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """The samples that were still held back [batch, n]."""
        if not self.any:
            return empty_like(self.codec, self.batch, 1)[:, 0]
        return self.network(empty_like(self.codec, self.batch, self.codec.dimension), True)[:, 0]
