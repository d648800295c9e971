"""ConMamba: speech recognition by an encoder of bidirectional Mamba and convolution, with a CTC head and a
decoder.

Source: Jiang et al. 2024, "Speech Slytherin", section on recognition and its figure of the encoder and
decoder layers; structure, sizes and names in papers.md 2 and 3.2. Written from that description.

    samples [batch, n] at 16 kHz
      -> fbank, global mean and std                                features [batch, frames at 10 ms, 80]
      -> frontend: two strided convolutions                        [batch, frames at 40 ms, 640]
      -> linear to d, n_layers x ConMambaLayer, LN                 memory [batch, frames at 40 ms, d]
      -> ctc_lin                                                   CTC logits [batch, frames, vocab], blank 0
      -> decoder(tokens so far, memory), seq_lin                   next-token logits [batch, tokens, vocab]

The encoder has no positions and no padding mask; a batch of unequal lengths says them in ``lengths`` and then
gives what each recording gives alone (the published code lets the padding leak in, papers.md 0, trap 2).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from slyther_cli.audio.features import Fbank, InputNormalization
from slyther_cli.layers.attention import (
    AttentionDecoder,
    AttentionState,
    FeedForward,
    Sinusoid,
    TransformerDecoderLayer,
    inverse_frequencies,
    selected,
    valid_frames,
)
from slyther_cli.layers.convolution import ConvolutionModule, Named, Norm
from slyther_cli.layers.frontend import BLOCKS, Blocks, ConvFrontend
from slyther_cli.layers.mamba import BiMamba, Mamba, MambaState


@dataclass(frozen=True)
class ConMambaConfig:
    """Sizes. ``n_fft``, ``window`` and ``hop`` in samples; ``decoder`` is "none" (CTC alone), "transformer"
    or "mamba"; ``max_positions`` rows of the decoder's position table are stored, longer targets compute
    theirs.

    ``causal`` makes the Mamba layers forward-only, the convolutions look back and the features' clip run
    along, so that the encoder can run live: a frame is ready 30 ms and half an ``n_fft`` after the sound at
    its centre.
    """

    n_mels: int = 80
    n_fft: int = 400
    window: int = 400
    hop: int = 160
    d_model: int = 144
    n_layers: int = 12
    d_ffn: int = 1024
    d_state: int = 16
    kernel_size: int = 31
    decoder: str = "transformer"
    n_decoder_layers: int = 4
    n_heads: int = 4
    vocab: int = 5000
    max_positions: int = 2500
    dropout: float = 0.1
    causal: bool = False
    sample_rate: int = 16000


# --- encoder ---


class LayerState(NamedTuple):
    """What a causal ConMambaLayer carries on. mamba: see there; past: [batch, 30, d], gated frames of the
    convolution."""

    mamba: MambaState
    past: Tensor


class ConMambaLayer(nn.Module):
    """[batch, frames, d] -> the same:

    x += FFN1(x) / 2;  x += BiMamba(LN(x));  x += Conv(x);  x = LN(x + FFN2(x) / 2)
    """

    def __init__(self, c: ConMambaConfig):
        super().__init__()
        d = c.d_model
        self.ffn_module1 = ffn_module(d, c.d_ffn, c.dropout)
        self.norm1 = Norm(d)
        self.mamba: Mamba | BiMamba = Mamba(d, c.d_state) if c.causal else BiMamba(d, c.d_state)
        self.convolution_module = ConvolutionModule(d, c.kernel_size, c.dropout, c.causal)
        self.ffn_module2 = ffn_module(d, c.d_ffn, c.dropout)
        self.norm2 = Norm(d)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.first(x)
        x = x + self._mixed(self.norm1(x), lengths)
        return self.last(x + self.convolution_module(x, valid_frames(lengths, x.shape[1])))

    def step(self, x: Tensor, state: LayerState | None) -> tuple[Tensor, LayerState]:
        """Causal only: the next frames, any number of them."""
        mamba, past = state or (None, None)
        x = self.first(x)
        y, mamba = self.mamba.step(self.norm1(x), mamba)
        x = x + y
        y, past = self.convolution_module.step(x, past)
        return self.last(x + y), LayerState(mamba, past)

    def first(self, x: Tensor) -> Tensor:
        """What comes before the Mamba, frame by frame."""
        return x + 0.5 * self.ffn_module1(x)

    def last(self, x: Tensor) -> Tensor:
        """What comes after the convolution, frame by frame."""
        return self.norm2(x + 0.5 * self.ffn_module2(x))

    def _mixed(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        if lengths is None or not isinstance(self.mamba, BiMamba):
            return self.mamba(x)
        xz = self.mamba.project(x)
        gap = x.shape[1] - lengths  # moved to the right end, so that walking left ends with the padding
        back = self.mamba.direction((_rolled(xz[0], gap), _rolled(xz[1], gap)), backward=True)[0]
        return self.mamba.combine(self.mamba.direction(xz)[0], _rolled(back, -gap))


class ConMambaEncoder(nn.Module):
    """The layers and a last norm. [batch, frames, d] -> the same."""

    def __init__(self, c: ConMambaConfig):
        super().__init__()
        self.layers: Any = nn.ModuleList(ConMambaLayer(c) for _ in range(c.n_layers))
        self.norm = Norm(c.d_model, 1e-6)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, lengths)
        return self.norm(x)

    def step(self, x: Tensor, states: list[LayerState] | None) -> tuple[Tensor, list[LayerState]]:
        """Causal only: the next frames of a recording; ``states`` is None at its start."""
        after: list[LayerState] = []
        for i, layer in enumerate(self.layers):
            x, state = layer.step(x, states[i] if states else None)
            after.append(state)
        return self.norm(x), after


# --- Mamba decoder ---


class MambaDecoderState(NamedTuple):
    """Where a decoder stands. ``position``: tokens decoded; ``own`` and ``cross``: the states of both Mambas,
    one a layer. Before the first token, ``cross`` is the state after the memory, and ``own`` is None."""

    position: int
    own: tuple[MambaState | None, ...]
    cross: tuple[MambaState, ...]

    def select(self, rows: Tensor) -> MambaDecoderState:
        """The beams ``rows`` (indices, repeated or left out)."""
        return self._replace(own=selected(self.own, rows), cross=selected(self.cross, rows))


class MambaDecoderLayer(nn.Module):
    """x += Mamba(LN(x)); x += CrossMamba(LN(x)); x += FFN(LN(x)).

    CrossMamba is an ordinary Mamba over [memory ; x] along time, of which only the outputs at x are kept.
    """

    def __init__(self, c: ConMambaConfig):
        super().__init__()
        d = c.d_model
        self.self_mamba = Mamba(d, c.d_state)
        self.cross_mamba = Mamba(d, c.d_state)
        self.pos_ffn = FeedForward(d, c.d_ffn, c.dropout)
        self.norm1, self.norm2, self.norm3 = (Norm(d, 1e-6) for _ in range(3))
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, memory: Tensor, lengths: Tensor | None) -> Tensor:
        x = x + self.dropout(self.self_mamba(self.norm1(x)))
        frames, joined = memory.shape[1], torch.cat([memory, self.norm2(x)], 1)
        if lengths is None:
            y = self.cross_mamba(joined)
        else:  # each memory moves to the right until it touches its tokens, and the padding to the end
            order, back = _touching(lengths, frames, joined.shape[1])
            y = _taken(self.cross_mamba(_taken(joined, order)), back)
        x = x + self.dropout(y[:, frames:])
        return x + self.dropout(self.pos_ffn(self.norm3(x)))

    def step(
        self, x: Tensor, own: MambaState | None, cross: MambaState
    ) -> tuple[Tensor, MambaState, MambaState]:
        y, own = self.self_mamba.step(self.norm1(x), own)
        x = x + self.dropout(y)
        y, cross = self.cross_mamba.step(self.norm2(x), cross)
        x = x + self.dropout(y)
        return x + self.dropout(self.pos_ffn(self.norm3(x))), own, cross


class MambaDecoder(nn.Module):
    """Embedded tokens [batch, n, d] over memory [batch, frames, d] -> [batch, n, d]."""

    def __init__(self, c: ConMambaConfig):
        super().__init__()
        self.layers: Any = nn.ModuleList(MambaDecoderLayer(c) for _ in range(c.n_decoder_layers))
        self.norm = Norm(c.d_model, 1e-6)

    def forward(self, x: Tensor, memory: Tensor, lengths: Tensor | None = None) -> Tensor:
        """All tokens at once, for training. ``lengths`` [batch]: frames of each memory in a padded batch."""
        for layer in self.layers:
            x = layer(x, memory, lengths)
        return self.norm(x)

    def start(self, memory: Tensor | Iterable[Tensor]) -> MambaDecoderState:
        """The state before the first token, the same for all steps and beams. ``memory`` [batch, frames, d],
        or its pieces in order of time: a recording of any length is read once and leaves a state of constant
        size."""
        cross: list[MambaState | None] = [None] * len(self.layers)
        for piece in [memory] if isinstance(memory, Tensor) else memory:
            for i, layer in enumerate(self.layers):
                cross[i] = layer.cross_mamba.direction(layer.cross_mamba.project(piece), cross[i])[1]
        if not all(cross):
            raise ValueError("the decoder needs a memory of at least one piece")
        return MambaDecoderState(0, (None,) * len(self.layers), tuple(s for s in cross if s))

    def step(self, x: Tensor, state: MambaDecoderState) -> tuple[Tensor, MambaDecoderState]:
        """The next n tokens, n >= 1."""
        after = []
        for layer, own, cross in zip(self.layers, state.own, state.cross, strict=True):
            x, own, cross = layer.step(x, own, cross)
            after.append((own, cross))
        owns, crosses = zip(*after, strict=True)
        return self.norm(x), MambaDecoderState(state.position + x.shape[1], owns, crosses)


# --- the whole ---


class ConMambaNet(nn.Module):
    """What SpeechBrain calls the Transformer: everything between the front end and the heads, under its
    names."""

    def __init__(self, c: ConMambaConfig, features: int, encoder: nn.Module):
        super().__init__()
        d = c.d_model
        # the published encoder throws its values away; kept for its name
        self.positional_encoding = nn.Module()
        self.positional_encoding.register_buffer("inv_freq", inverse_frequencies(d))
        self.positional_encoding_decoder = Sinusoid(d, c.max_positions)
        entering = [Named(w=nn.Linear(features, d)), nn.Dropout(c.dropout)]
        self.custom_src_module = Named(layers=nn.Sequential(*entering))
        self.encoder: Any = encoder
        self.decoder: AttentionDecoder | MambaDecoder | None = None
        if c.decoder == "transformer":
            sizes = (d, c.n_heads, c.d_ffn, c.dropout)
            layers = (TransformerDecoderLayer(*sizes) for _ in range(c.n_decoder_layers))
            self.decoder = AttentionDecoder(d, layers)
        elif c.decoder == "mamba":
            self.decoder = MambaDecoder(c)
        elif c.decoder != "none":
            raise ValueError(f'decoder must be "none", "transformer" or "mamba", not {c.decoder!r}')
        if self.decoder is not None:
            table = Named(Embedding=nn.Embedding(c.vocab, d, padding_idx=0))
            self.custom_tgt_module = Named(layers=nn.ModuleList([Named(emb=table)]))
        for p in self.parameters():  # as published: A_log and A_b_log too, which puts all of A near -1
            if p.dim() > 1 and not p.is_meta:
                nn.init.xavier_normal_(p)

    def enter(self, x: Tensor, position: int = 0) -> Tensor:
        """The front end's frames [batch, frames, 640] -> the first layer's input, frame by frame. Where in
        the recording they stand (``position``) is nothing to this encoder."""
        linear, dropout = self.custom_src_module.layers
        return dropout(linear.w(x))

    def embed(self, tokens: Tensor, position: int) -> Tensor:
        """[batch, n] -> [batch, n, d], of which the first stands at ``position``."""
        x = self.custom_tgt_module.layers[0].emb.Embedding(tokens)
        return x * math.sqrt(x.shape[-1]) + self.positional_encoding_decoder(position, tokens.shape[1])


DecoderState = AttentionState | MambaDecoderState


class ConMamba(nn.Module):
    """Features [batch, frames, n_mels] -> CTC logits [batch, frames / 4, vocab]; see the head of the file for
    the rest."""

    make_encoder: ClassVar[type[nn.Module]] = ConMambaEncoder  # Conformer has another
    front_blocks: ClassVar[Blocks] = BLOCKS  # Speech-Mamba has others
    takes_whole: ClassVar[bool] = False
    """Whether its encoder needs a recording at once."""
    attends: ClassVar[bool] = False
    """Whether its encoder attends to all frames, as ``longform.attention_sweep`` computes it."""

    def __init__(self, config: ConMambaConfig):
        super().__init__()
        c = self.config = config
        self.fbank = Fbank(c.n_mels, c.n_fft, c.window, c.hop, c.sample_rate, c.causal)
        self.normalize = InputNormalization(c.n_mels)
        self.frontend = ConvFrontend(c.n_mels, self.front_blocks, c.dropout)
        self.transformer = self.make_network(c, self.frontend.width)
        if c.decoder != "none":
            self.seq_lin = Named(w=nn.Linear(c.d_model, c.vocab))
        self.ctc_lin = Named(w=nn.Linear(c.d_model, c.vocab))

    def make_network(self, c: Any, features: int) -> Any:
        """What stands between the front end, of so many ``features``, and the heads."""
        return ConMambaNet(c, features, self.make_encoder(c))

    @property
    def has_decoder(self) -> bool:
        return self.config.decoder != "none"

    def frames(self, samples: int) -> int:
        """Encoder frames of a recording."""
        return int(self.frontend.frames(self.fbank.frames(samples)))

    def features(self, samples: Tensor) -> Tensor:
        """[batch, n] in [-1, 1] -> normalised features [batch, frames, n_mels]."""
        return self.normalize(self.fbank(samples))

    def encode(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Features [batch, frames, n_mels], ``lengths`` [batch] of them each if they differ -> memory [batch,
        frames / 4, d].

        Frame ``i`` of the memory is centred on sample ``4 * hop * i``. Its lengths are
        ``frontend.frames(lengths)``.
        """
        x = self.transformer.enter(self.frontend(features, lengths))
        return self.transformer.encoder(x, None if lengths is None else self.frontend.frames(lengths))

    def ctc(self, memory: Tensor) -> Tensor:
        return self.ctc_lin.w(memory)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.ctc(self.encode(features, lengths))

    def decode(self, tokens: Tensor, memory: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Teacher-forced: tokens [batch, n], from bos on -> the logits of what follows each of them [batch,
        n, vocab].

        ``lengths`` [batch]: frames of each memory in a padded batch. Raises TypeError without a decoder.
        """
        return self.seq_lin.w(self._decoder()(self.transformer.embed(tokens, 0), memory, lengths))

    def start(self, memory: Tensor | Iterable[Tensor]) -> DecoderState:
        """The decoder's state before the first token; ``state.select(rows)`` spreads it over beams and sorts
        them."""
        return self._decoder().start(memory)

    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """The next tokens [batch, n] -> logits [batch, n, vocab], what ``decode`` would give, and the state
        after them."""
        x, state = self._decoder().step(self.transformer.embed(tokens, state.position), state)
        return self.seq_lin.w(x), state

    def start_from_s4d(self) -> None:
        """Set every A back to -1 .. -d_state (Mamba's own initial values; not what the published training
        starts from)."""
        for name, p in self.named_parameters():
            if name.endswith((".A_log", ".A_b_log")):
                p.data.copy_(torch.arange(1, p.shape[1] + 1, device=p.device).log())

    def _decoder(self):
        if self.transformer.decoder is None:
            raise TypeError("this model has no decoder, only CTC")
        return self.transformer.decoder


def ffn_module(d: int, width: int, dropout: float, activation: type[nn.Module] = nn.GELU) -> nn.Sequential:
    ffn = FeedForward(d, width, dropout, activation)
    return nn.Sequential(nn.LayerNorm(d), ffn, nn.Dropout(dropout))


def _taken(x: Tensor, order: Tensor) -> Tensor:
    """x [batch, n, d], order [batch, n] -> x's frames in that order."""
    return x.gather(1, order.unsqueeze(-1).expand_as(x))


def _rolled(x: Tensor, by: Tensor) -> Tensor:
    """Each recording of x [batch, n, d] moved to the right by ``by`` [batch] frames, around the end."""
    return _taken(x, (torch.arange(x.shape[1], device=x.device) - by[:, None]) % x.shape[1])


def _touching(lengths: Tensor, frames: int, total: int) -> tuple[Tensor, Tensor]:
    """Orders [batch, total] that take [memory, its padding, tokens] to [memory, tokens, padding], and
    back."""
    at = torch.arange(total, device=lengths.device).expand(len(lengths), -1)
    padding = (at >= lengths[:, None]) & (at < frames)
    order = (at + total * padding).argsort(1)
    return order, order.argsort(1)
