"""Tiny codecs and voices with random weights, for the tests of speech."""

from pathlib import Path

import numpy as np
import torch

from slyther_cli.checkpoints import store
from slyther_cli.checkpoints.voice import write_voices
from slyther_cli.english.phonemes import spell
from slyther_cli.models import registry
from slyther_cli.models.vall_sampling import Voice

CODEC = {"n_filters": 2, "dimension": 8, "n_codebooks": 3, "codebook_size": 16}
VOICE = {
    **{"alphabet": "arpabet", "n_symbols": 80, "codec": "tiny", "sample_rate": 16000, "frame_rate": 50},
    **{"d_model": 16, "d_ffn": 16, "n_layers": 1, "n_nar_layers": 1, "n_text_layers": 1, "n_codebooks": 3},
    **{"codebook_size": 16, "dropout": 0.0},
}


def tiny_codec(folder: Path, n_codebooks: int = 3):
    torch.manual_seed(0)
    config = CODEC | {"n_codebooks": n_codebooks}
    codec = registry.build("seanet-codec", config)
    for layer in codec.quantizer.vq.layers:  # so that the codes differ
        layer._codebook.embed.copy_(torch.randn_like(layer._codebook.embed))
    store.save(folder, codec, name="tiny", architecture="seanet-codec", config=config, task="codec")
    return codec.eval()


def tiny_voices(folder: Path) -> Path:
    """A folder with a codec, and an aligned and a prefix model of two voices; and
    "wide", an aligned one whose first stage says two codebooks, of a codec with one more than it speaks."""
    tiny_codec(folder / "four", 4)
    tiny_codec(folder / "tiny")
    symbols = torch.tensor(spell("Yes.", "arpabet").symbols)
    lasting = torch.tensor([5, 5, 10, 5, 5])
    codes = torch.randint(0, 16, (3, 30))
    voices = {"ann": Voice(symbols, codes, lasting), "bob": Voice(symbols, 15 - codes, lasting)}
    for name in ("aligned", "prefix", "wide"):
        conditioning = "aligned" if name == "wide" else name
        config = {**VOICE, "conditioning": conditioning}
        if name == "wide":
            config |= {"n_first": 2, "codec": "four"}
        network = registry.build("vall-m", config)
        if conditioning == "aligned":
            network.duration.bias.data.fill_(np.log(6))  # about 5 frames a symbol
        else:
            network.ar_predict_layer.bias.data[-1] = 0.5  # ends now and then
        store.save(
            folder / name,
            network,
            name=name,
            architecture="vall-m",
            config=config,
            task="speak",
            voices=[{"name": "ann", "sex": "female", "accent": "British"}, {"name": "bob"}],
            companions=lambda where: write_voices(where, voices),
        )
    return folder
