"""Training on phones from weights that write letters."""

import pytest
import torch

from slyther_cli.decode.phones import PHONES, PhoneTokenizer
from slyther_cli.decode.tokens import CharTokenizer
from slyther_cli.errors import UsageError
from slyther_cli.models import registry
from slyther_cli.research.training.recognition_start import phones_for_letters

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
