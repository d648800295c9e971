"""Training from other weights: phones from letters, more layers from fewer."""

import pytest
import torch

from slyther_cli.decode.phones import PHONES, PhoneTokenizer
from slyther_cli.decode.tokens import CharTokenizer
from slyther_cli.errors import UsageError
from slyther_cli.models import registry
from slyther_cli.research.training.recognition_start import deeper, phones_for_letters

SMALL = {"d_model": 16, "n_layers": 1, "d_ffn": 32, "d_state": 4, "vocab": 29, "decoder": "none"}


def test_a_phone_begins_with_what_tells_the_letters_that_spell_it():
    settings = registry.full_config("conmamba", SMALL)
    letters, model = CharTokenizer(), registry.build("conmamba", settings)
    other, found = phones_for_letters(model, "conmamba", settings, letters)
    assert found == {**settings, "vocab": 79}
    old, new = model.ctc_lin.w.weight, other.ctc_lin.w.weight
    first, inner = (1 + PHONES.index("ER"), 1 + len(PHONES) + PHONES.index("ER"))
    assert torch.equal(new[0], old[0])
    assert torch.equal(new[first], old[letters.encode("er")].mean(0))
    assert torch.equal(new[first], new[inner])
    same = {k: v for k, v in model.state_dict().items() if not k.startswith("ctc_lin.")}
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in same.items())
    assert PhoneTokenizer().size == new.shape[0]


def test_a_model_with_a_decoder_keeps_its_units():
    settings = registry.full_config("conmamba", {**SMALL, "decoder": "mamba", "n_decoder_layers": 1})
    model = registry.build("conmamba", settings)
    with pytest.raises(UsageError, match="without a decoder"):
        phones_for_letters(model, "conmamba", settings, CharTokenizer(ends=True))


@pytest.mark.parametrize("architecture", ["conmamba", "conformer"])
def test_added_layers_do_nothing_at_first(architecture):
    small = {"d_model": 48, "n_layers": 2, "d_ffn": 32, "vocab": 29, "decoder": "none", "dropout": 0.0}
    settings = registry.full_config(architecture, small)
    torch.manual_seed(1)
    model = registry.build(architecture, settings)
    for layer in model.transformer.encoder.layers:
        layer.norm2.norm.weight.data.uniform_(0.6, 1.4)
        layer.norm2.norm.bias.data.normal_(0, 0.1)
    x = torch.randn(2, 60, 80)
    with torch.no_grad():
        before = model.encode(x)
        other, found = deeper(model, architecture, settings, 5)
        after = other.encode(x)
    assert found == {**settings, "n_layers": 5}
    assert len(other.transformer.encoder.layers) == 5 and after.shape == before.shape
    assert float((after - before).square().mean() / before.var()) < 0.02
    loss = other.encode(x).square().sum()
    loss.backward()
    assert all(
        float(layer.ffn_module2[1].ffn[3].weight.grad.abs().max()) > 0
        for layer in other.transformer.encoder.layers
    )


@pytest.mark.parametrize("n_layers", [1, "4", 2.0])
def test_a_start_cannot_lose_layers(n_layers):
    settings = registry.full_config("conmamba", {**SMALL, "n_layers": 2})
    with pytest.raises(UsageError, match="n_layers beside start_from: 2 or more"):
        deeper(registry.build("conmamba", settings), "conmamba", settings, n_layers)
