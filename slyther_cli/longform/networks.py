"""What the engine asks of a network: a separator, a recogniser. Any network that has these can be run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from torch import Tensor, nn


class SeparationNetwork(Protocol):
    """Mixture [batch, samples] -> stems [batch, n_speakers, samples]; ``mamba_tasnet.MambaTasNet`` is one.

    ``takes_whole``   it needs a recording at once (``longform.whole``); nothing below is asked of it then.
    ``config``        causal, d_model, stride, n_speakers, sample_rate.
    ``encoder``       samples to frames: ``frames(samples)``, ``samples(frames)``, ``encode(samples)``.
    ``masknet``       ``enter(w)``, ``mamba_net.layers`` (each a ``sweep.SweepLayer``), ``mamba_net.norm_f``
                      and ``masks(x)``.
    ``decoder``       masked frames to samples; its ``weight`` is on the network's device.
    """

    takes_whole: bool
    config: Any
    encoder: Any
    masknet: Any
    decoder: Any

    def __call__(self, mixture: Tensor) -> Tensor: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...


class RecognitionNetwork(Protocol):
    """Features [batch, frames, n_mels] -> CTC logits [batch, frames / 4, vocab]; see ``conmamba.ConMamba``.

    ``takes_whole``   it needs a recording at once, so that the engine cannot run it.
    ``attends``       its encoder attends to all frames (``longform.attention_sweep``).
    ``has_decoder``   it can decode with an attention decoder: ``start`` and ``step``.
    ``config``        causal, d_model, n_layers, hop, sample_rate, vocab.
    ``fbank``, ``normalize``, ``frontend``   samples to features, as streams.
    ``transformer``   ``enter(x, at)`` and the ``encoder`` with its layers.
    """

    takes_whole: bool
    attends: bool
    config: Any
    fbank: Any
    normalize: Any
    frontend: Any
    transformer: Any

    @property
    def has_decoder(self) -> bool: ...
    def frames(self, samples: int) -> int: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...
