"""VALL-M and VALL-ME: speech as the tokens of a codec, continued after a prompt (papers.md section 4).

Two stages. The first says codebook 1 frame by frame, through UniMamba layers: a recurrence, so a token costs
the same time and memory however much was said before. The second fills in codebooks 2, 3, ..., each from
those before it, through BiMamba layers over all frames of a piece. The paper's own definitions were not
published: what stands here follows papers.md 4.3 and 4.4 and is an assumption.

``conditioning`` says how text comes in. "prefix" (VALL-M): both stages run over [text ; frames], and the
first ends by a token of its own. "encoder" (VALL-ME): the same behind a bidirectional text encoder. "aligned"
(ours): the text encoder also says how long each symbol lasts, and each frame is given its symbol and its
place in it: speech cannot skip, repeat or run away, and the text may be endless.

``n_first`` (ours): how many codebooks the first stage says of each frame, one after the other. Where the
first one is the pitch, the second holds most of the sound: drawn frame after frame, neighbours fit.

``speaker`` (ours): a summary of the prompt's codes is added to what both stages see of the text. Stage one
otherwise knows the voice from its states alone, and forgets it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slyther_cli.layers.vall import States, VallStack

CONDITIONINGS = ("prefix", "encoder", "aligned")
PLACES = 4  # of a frame in its symbol: from the start, from the end, share, length


@dataclass(frozen=True)
class VallMConfig:
    """``alphabet``: the symbols of ``english.phonemes`` that it reads, of which there is room for
    ``n_symbols``. ``codec``: the name of the codec whose codes it speaks, the first ``n_codebooks`` of it;
    ``sample_rate`` and ``frame_rate`` are the codec's. The defaults are the paper-sized network on EnCodec
    (papers.md 4.2)."""

    alphabet: str = "espeak"
    n_symbols: int = 512
    conditioning: str = "prefix"
    speaker: bool = False
    d_model: int = 1024
    d_ffn: int = 4096
    d_state: int = 16
    n_layers: int = 12
    n_nar_layers: int = 12
    n_text_layers: int = 4
    n_first: int = 1
    n_codebooks: int = 8
    codebook_size: int = 1024
    dropout: float = 0.1
    codec: str = "encodec-24khz"
    sample_rate: int = 24_000
    frame_rate: int = 75

    def __post_init__(self) -> None:
        if self.conditioning not in CONDITIONINGS:
            raise ValueError(f"conditioning must be one of {', '.join(CONDITIONINGS)}")
        if self.n_codebooks < 2 or not 0 <= self.dropout < 1:
            raise ValueError("n_codebooks must be 2 or more, dropout from 0 to below 1")
        if not 1 <= self.n_first < self.n_codebooks or (self.n_first > 1 and self.conditioning != "aligned"):
            raise ValueError("n_first must be 1 or more and below n_codebooks; 1 unless aligned")


class Batch(NamedTuple):
    """symbols [batch, S] and codes [batch, n_codebooks, T], padded on the right; their lengths [batch];
    durations [batch, S], frames of each symbol, that sum to ``n_frames`` ("aligned" only)."""

    symbols: Tensor
    n_symbols: Tensor
    codes: Tensor
    n_frames: Tensor
    durations: Tensor | None = None


class Losses(NamedTuple):
    """Means per frame in nats (``first``, ``rest``), and of squared log durations (``lengths``)."""

    first: Tensor
    rest: Tensor
    lengths: Tensor


class Context(NamedTuple):
    """What the first stage carries from frame to frame. ``last``: [batch, n_first], the codes before;
    ``codebook_size`` at the start."""

    states: States | None
    last: Tensor


class SpeakerSummary(nn.Module):
    """How a prompt sounds, whatever it says: the mean over its frames of what each one's codes tell."""

    def __init__(self, d: int):
        super().__init__()
        self.frame, self.whole = nn.Linear(d, d), nn.Linear(d, d)
        nn.init.zeros_(self.whole.weight)  # an unconditioned network is where training starts
        nn.init.zeros_(self.whole.bias)

    def forward(self, x: Tensor, n_frames: Tensor) -> Tensor:
        """[batch, T, d], of which the first ``n_frames`` [batch] count -> [batch, 1, d]."""
        there = (torch.arange(x.shape[1], device=x.device) < n_frames[:, None])[..., None]
        mean = (F.silu(self.frame(x)) * there).sum(1, keepdim=True) / n_frames.clamp(min=1)[:, None, None]
        return self.whole(mean)


class LaterCode(nn.Module):
    """Logits of a later codebook of a frame in stage one, from what the stage made of the frame and the codes
    that it has already. [..., d] -> [..., size]."""

    def __init__(self, d: int, size: int):
        super().__init__()
        self.mix, self.predict = nn.Linear(d, d), nn.Linear(d, size)

    def forward(self, y: Tensor) -> Tensor:
        return self.predict(F.silu(self.mix(y)))


class VallM(nn.Module):
    """Both stages and the text encoder. Codes are int64; code ``codebook_size`` is the end of speech."""

    def __init__(self, config: VallMConfig):
        super().__init__()
        c = self.config = config
        d, self.aligned = c.d_model, c.conditioning == "aligned"
        self.text_embedding = nn.Embedding(c.n_symbols, d)
        self.text_encoder = None
        if c.conditioning != "prefix":
            self.text_encoder = self.stack(c.n_text_layers)
        if self.aligned:
            self.duration = nn.Linear(d, 1)
            self.place = nn.Linear(PLACES, d)
        self.speaker = SpeakerSummary(d) if getattr(c, "speaker", False) else None
        self.ar_audio_embedding = nn.Embedding(c.codebook_size + 1, d)  # the last one stands for the start
        self.ar_decoder = self.stack(c.n_layers, causal=True)
        self.ar_predict_layer = nn.Linear(d, c.codebook_size + 1)
        self.n_first: int = getattr(c, "n_first", 1)
        self.ar_later_embeddings = nn.ModuleList(
            nn.Embedding(c.codebook_size + 1, d) for _ in range(self.n_first - 1)
        )
        self.ar_later_layers = nn.ModuleList(LaterCode(d, c.codebook_size) for _ in range(self.n_first - 1))
        self.nar_audio_embeddings = nn.ModuleList(
            nn.Embedding(c.codebook_size, d) for _ in range(c.n_codebooks)
        )
        self.nar_decoder = self.stack(c.n_nar_layers, levels=c.n_codebooks - self.n_first)
        self.nar_predict_layers = nn.ModuleList(
            nn.Linear(d, c.codebook_size) for _ in range(c.n_codebooks - self.n_first)
        )
        tables = (self.ar_audio_embedding, *self.ar_later_embeddings, *self.nar_audio_embeddings)
        for embedding in (self.text_embedding, *tables):
            assert isinstance(embedding, nn.Embedding)
            nn.init.normal_(embedding.weight, std=0.3)

    def stack(self, n_layers: int, causal: bool = False, levels: int = 0) -> Any:
        """The layers of a stage; VALL-E has others."""
        c = self.config
        return VallStack(c.d_model, n_layers, c.d_ffn, c.d_state, c.dropout, causal, levels)

    def after_text(
        self,
        stage: nn.Module,
        text: Tensor,
        n_symbols: Tensor | None,
        audio: Tensor,
        n_frames: Tensor | None,
        level: Tensor | None = None,
    ) -> Tensor:
        """A stage over [text ; audio], of which the outputs at the audio are kept: [batch, T, d]."""
        joined, places = join(text, n_symbols, audio, n_frames)
        every = None if n_frames is None or n_symbols is None else n_symbols + n_frames
        y = stage(joined, every, level)
        return y.gather(1, places[..., None].expand(-1, -1, y.shape[2]))

    # --- text ---

    def read(self, symbols: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[batch, S] -> what both stages see of the text, [batch, S, d]."""
        x = self.text_embedding(symbols)
        return x if self.text_encoder is None else self.text_encoder(x, lengths)

    def voice(self, codes: Tensor, n_frames: Tensor | None = None) -> Tensor:
        """What the first ``n_frames`` [batch] of codes [batch, K, T] add to the text of both stages, [batch,
        1, d]: 0 for models without ``speaker``."""
        if self.speaker is None:
            return self.text_embedding.weight.new_zeros(len(codes), 1, self.config.d_model)
        x = sum(e(codes[:, k]) for k, e in enumerate(self.nar_audio_embeddings))
        if n_frames is None:
            n_frames = torch.full((len(codes),), codes.shape[2], device=codes.device)
        return self.speaker(x, n_frames)

    def log_durations(self, text: Tensor) -> Tensor:
        """[batch, S, d] -> log(1 + frames) of every symbol, [batch, S]."""
        return self.duration(text)[..., 0]

    def spread(self, text: Tensor, durations: Tensor) -> Tensor:
        """[batch, S, d] and frames of each symbol -> what each frame is to say [batch, T, d], T the
        longest."""
        ends = durations.cumsum(1)
        frames = torch.arange(int(ends[:, -1].max()), device=text.device)
        at = torch.searchsorted(ends, frames.expand(len(text), -1).contiguous(), right=True)
        at = at.clamp(max=text.shape[1] - 1)
        length = durations.gather(1, at).clamp(min=1)
        since = frames - (ends.gather(1, at) - durations.gather(1, at))
        before, after = since / 8, (length - 1 - since) / 8
        places = torch.stack((before, after, (since + 0.5) / length, length / 16), -1).clamp(-2, 2)
        return text.gather(1, at[..., None].expand(-1, -1, text.shape[2])) + self.place(places.to(text.dtype))

    # --- stage one ---

    def first_logits(self, guide: Tensor, codes: Tensor, hidden: Tensor | None = None) -> list[Tensor]:
        """Aligned: guide [batch, T, d] and the codes of the first stage [batch, n_first, T] -> of each of its
        codebooks the logits [batch, T, V]. ``hidden`` [batch, T]: frames that are not told the one before."""
        said = self._said(self._shifted(codes))
        if hidden is not None:
            said = said * ~hidden[..., None]
        y = self.ar_decoder(guide + said)
        return [self.code_logits(y, codes[:, :k]) for k in range(self.n_first)]

    def begin(self, text: Tensor) -> Context:
        """Before the first frame. With a text prefix its states hold the text [batch, S, d]."""
        states = None if self.aligned else self.ar_decoder.step(text, None)[1]
        start = self.config.codebook_size
        return Context(states, torch.full((len(text), self.n_first), start, device=text.device))

    def step(self, context: Context, guide: Tensor | None = None) -> tuple[Tensor, States]:
        """What the next frame's codes are told from, [batch, d], and the states after it. ``guide`` [batch,
        1, d] is the frame's text ("aligned"). The next context is ``Context(states, the codes chosen)``."""
        x = self._said(context.last[..., None])
        y, states = self.ar_decoder.step(x if guide is None else x + guide, context.states)
        return y[:, 0], states

    def code_logits(self, y: Tensor, before: Tensor) -> Tensor:
        """Of ``step``'s [batch, d] and the frame's codes so far [batch, k], the logits [batch, V] of the next
        one; or of whole rows, [batch, T, d] and [batch, k, T]. V is codebook_size, and 1 more for the first,
        which may be the end of speech."""
        if not before.shape[1]:
            return self.ar_predict_layer(y)
        return self.ar_later_layers[before.shape[1] - 1](y + self._said(before))

    def prompted(self, context: Context, codes: Tensor, guide: Tensor | None = None) -> Context:
        """After the first stage's codes [batch, n_first, T] of a prompt, whatever the network would have
        said."""
        if not codes.shape[2]:
            return context
        x = self._said(torch.cat((context.last[..., None], codes[..., :-1]), 2))
        _, states = self.ar_decoder.step(x if guide is None else x + guide, context.states)
        return Context(states, codes[..., -1])

    def _shifted(self, codes: Tensor) -> Tensor:
        return F.pad(codes[..., :-1], (1, 0), value=self.config.codebook_size)

    def _said(self, codes: Tensor) -> Tensor:
        """The first k codes of frames [batch, k, ...] -> what stands for them [batch, ..., d]."""
        tables = (self.ar_audio_embedding, *self.ar_later_embeddings)
        x = tables[0](codes[:, 0])
        for k in range(1, codes.shape[1]):
            x = x + tables[k](codes[:, k])
        return x

    # --- stage two ---

    def next_logits(
        self,
        text: Tensor,
        codes: Tensor,
        level: Tensor,
        n_prompt: Tensor,
        n_symbols: Tensor | None = None,
        n_frames: Tensor | None = None,
    ) -> Tensor:
        """Logits [batch, T, V] of codebook ``level[i] + 2`` (of codebooks counted from 1) for row ``i``;
        levels are from ``n_first - 1``.

        ``text`` is the guide [batch, T, d] ("aligned") or the text [batch, S, d]; ``codes`` [batch, K, T], of
        which the first ``level + 1`` codebooks are read, and all K in the first ``n_prompt[i]`` frames.
        """
        frames = torch.arange(codes.shape[2], device=codes.device)
        x = torch.zeros((), device=codes.device)
        for k, embedding in enumerate(self.nar_audio_embeddings):
            seen = (k <= level)[:, None] | (frames < n_prompt[:, None])
            x = x + embedding(codes[:, k]) * seen[..., None]

        level = level - (self.n_first - 1)
        if self.aligned:
            y = self.nar_decoder(text + x, n_frames, level)
        else:
            y = self.after_text(self.nar_decoder, text, n_symbols, x, n_frames, level)
        out = y.new_empty(*y.shape[:2], self.config.codebook_size)
        for k in level.unique().tolist():
            out[level == k] = self.nar_predict_layers[k](y[level == k]).to(out.dtype)
        return out

    # --- training ---

    def losses(
        self,
        batch: Batch,
        level: Tensor,
        n_prompt: Tensor,
        n_voice: Tensor | None = None,
        hidden: Tensor | None = None,
    ) -> Losses:
        """``level`` [batch] and ``n_prompt`` [batch]: what the second stage is asked for each row.
        ``n_voice`` [batch]: the frames at its start that tell the voice; by default none. ``hidden``: as in
        ``first_logits``."""
        symbols, n_symbols, codes, n_frames, durations = batch
        text = self.read(symbols, n_symbols)
        frames = torch.arange(codes.shape[2], device=codes.device)
        valid = frames < n_frames[:, None]
        voice = self.voice(codes, torch.zeros_like(n_frames) if n_voice is None else n_voice)
        lengths = text.new_zeros(())
        if self.aligned:
            assert durations is not None
            there = torch.arange(symbols.shape[1], device=symbols.device) < n_symbols[:, None]
            wanted = torch.log1p(durations.to(text.dtype))
            lengths = F.mse_loss(self.log_durations(text)[there], wanted[there])
            guide = self.spread(text, durations) + voice
            every = self.first_logits(guide, codes[:, : self.n_first], hidden)
            said = (F.cross_entropy(x[valid].float(), codes[:, k][valid]) for k, x in enumerate(every))
            first = torch.stack(tuple(said)).sum()
        else:
            guide, end = text + voice, self.config.codebook_size
            target = F.pad(codes[:, 0], (0, 1), value=end)
            target = target.scatter(1, n_frames[:, None], end)
            before = self.ar_audio_embedding(self._shifted(target))
            y = self.after_text(self.ar_decoder, guide, n_symbols, before, n_frames + 1)
            logits = self.ar_predict_layer(y)
            with_end = torch.arange(target.shape[1], device=codes.device) <= n_frames[:, None]
            first = F.cross_entropy(logits[with_end].float(), target[with_end])
        asked = valid & (frames >= n_prompt[:, None])
        wanted_codes = codes[torch.arange(len(codes)), level + 1]
        rest = self.next_logits(guide, codes, level, n_prompt, n_symbols, n_frames)
        return Losses(first, F.cross_entropy(rest[asked].float(), wanted_codes[asked]), lengths)


def join(
    text: Tensor, n_symbols: Tensor | None, audio: Tensor, n_frames: Tensor | None
) -> tuple[Tensor, Tensor]:
    """[text ; audio] of every row without a gap, padding on the right; and where the audio stands [batch,
    T]."""
    length = audio.shape[1]
    if n_symbols is None:
        n_symbols = torch.full((len(text),), text.shape[1], device=text.device)
    places = n_symbols[:, None] + torch.arange(length, device=text.device)
    total = text.shape[1] + length
    joined = torch.zeros(len(text), total, text.shape[2], dtype=text.dtype, device=text.device)
    there = torch.arange(text.shape[1], device=text.device) < n_symbols[:, None]
    joined[:, : text.shape[1]] = text * there[..., None]
    joined = joined.scatter(1, places[..., None].expand(-1, -1, text.shape[2]), audio)
    return joined, places


def frames_of(log_durations: Tensor, speed: float | Tensor = 1.0, carry: float = 0.0) -> Tensor:
    """log(1 + frames) [S] -> whole frames [S] whose sums follow the unrounded ones; at least 0. ``speed``: of
    all symbols, or of each [S]."""
    exact = (torch.expm1(log_durations.double()).clamp(min=0, max=math.e**6) / speed).cumsum(0) + carry
    edges = torch.cat((exact.new_zeros(1), exact.round()))
    return edges.diff().clamp(min=0).long()
