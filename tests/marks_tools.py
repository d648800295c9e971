"""Small punctuators whose weights are set by hand, for the tests of readable transcripts."""

import torch

from slyther_cli.checkpoints import store
from slyther_cli.models import registry
from slyther_cli.models.punctuation import LOWER, NONE, STOP

SMALL = {"vocab": 21, "d_model": 16, "n_layers": 1, "d_state": 4, "d_ffn": 16}


def set_by_hand(config, tokenizer, seen):
    """A network that ends a sentence where it sees the word ``seen``, and nowhere else."""
    torch.manual_seed(0)
    network = registry.build("punctuator", config)
    with torch.no_grad():
        for p in network.layers.parameters():
            p.zero_()  # each piece by itself
        network.marks.weight.zero_(), network.cases.weight.zero_()
        network.marks.bias.fill_(-20.0), network.cases.bias.zero_()
        network.marks.bias[NONE], network.cases.bias[LOWER] = 1.0, 9.0
        last = tokenizer.encode_words([seen])[0][-1]
        network.marks.weight[STOP] = network.norm(network.embedding.weight[last]) * 10 / SMALL["d_model"]
        network.marks.bias[STOP] = -8.0
    return network


def save_marks(folder, name, network, config, tokenizer):
    how = {"architecture": "punctuator", "config": config, "task": "punctuate", "companions": tokenizer.save}
    store.save(folder / name, network, name=name, **how)
