"""What training a recogniser begins with: an alphabet, weights for phones out of some for letters, a network
with more layers."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from slyther_cli.decode.phones import PHONES, SPELT, PhoneTokenizer
from slyther_cli.decode.tokens import BLANK, CharTokenizer, SentencePieceTokenizer, Tokenizer
from slyther_cli.errors import UsageError
from slyther_cli.models import registry


def phones_for_letters(
    model: Any, architecture: str, settings: dict[str, Any], letters: Tokenizer
) -> tuple[Any, dict[str, Any]]:
    """A network that writes letters -> the same one with an output layer for phones, and its settings. What
    tells a phone is at first what told the letters that often spell it; blank stays blank."""
    if model.has_decoder or not isinstance(letters, CharTokenizer):
        raise UsageError('[text] units = "phones" beside start_from: of a model of letters without a decoder')
    rows = [[BLANK], *(letters.encode(SPELT[phone]) for phone in PHONES)]
    rows += rows[1:]  # at a word's start, and within it
    settings = {**settings, "vocab": len(rows)}
    other = registry.build(architecture, settings)
    state = dict(model.state_dict())
    for name in ("ctc_lin.w.weight", "ctc_lin.w.bias"):
        state[name] = torch.stack([state[name][row].mean(0) for row in rows])
    other.load_state_dict(state)
    return other, settings


def new_tokenizer(units: str, size: int, lines: list[str], ends: bool) -> Any:
    """An alphabet of ``units``, see TextConfig. ``ends``: with tokens for a text's start and end, which
    SentencePiece's have anyway."""
    if units == "characters":
        return CharTokenizer(ends=ends)
    if units == "phones":
        if ends:
            raise UsageError('[text] units = "phones" are for models without a decoder')
        return PhoneTokenizer()
    try:
        return SentencePieceTokenizer.train(lines, size, kind=units)
    except ValueError as error:
        raise UsageError(f"[text] {error}") from None


@torch.no_grad()
def deeper(
    model: Any, architecture: str, settings: dict[str, Any], n_layers: int
) -> tuple[Any, dict[str, Any]]:
    """A ConMamba or a Conformer with encoder layers between its own that at first do next to nothing, and its
    settings. A new layer is the one before it without what its branches add; its last norm, over channels
    that are normalised already, puts back their mean and size.

    Raises :class:`UsageError`: fewer layers, or ones of another kind.
    """
    old = list(model.transformer.encoder.layers)
    if type(n_layers) is not int or n_layers < len(old):
        raise UsageError(f"[model] n_layers beside start_from: {len(old)} or more")
    if not all(hasattr(old[0], name) for name in ("ffn_module1", "convolution_module", "ffn_module2")):
        raise UsageError("[model] n_layers beside start_from: of a conmamba or a conformer")
    settings = {**settings, "n_layers": n_layers}
    other = registry.build(architecture, settings)
    added = n_layers - len(old)
    above = [max(1, round((i + 1) * len(old) / (added + 1))) for i in range(added)]
    layers: list[nn.Module] = []
    for i, layer in enumerate(old, 1):
        layers += [layer, *(_idle(layer) for _ in range(above.count(i)))]
    model.transformer.encoder.layers = nn.ModuleList(layers)
    other.load_state_dict(model.state_dict())
    return other, settings


def _idle(layer: Any) -> nn.Module:
    new = copy.deepcopy(layer)
    mixer = new.mamba.out_proj if hasattr(new, "mamba") else new.mha_layer.out_proj
    for last in (
        new.ffn_module1[1].ffn[3],
        new.ffn_module2[1].ffn[3],
        new.convolution_module.after_conv[2],
        mixer,
    ):
        for p in last.parameters():
            p.zero_()
    weight, bias = new.norm2.norm.weight, new.norm2.norm.bias
    mean, size = bias.mean(), (weight.square().mean() + bias.var(correction=0)).sqrt()
    weight.fill_(float(size))
    bias.fill_(float(mean))
    return new
