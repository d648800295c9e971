"""What keeps a recogniser from learning by heart: consistency of two views, dropped channels."""

import pytest
import torch

from slyther_cli.errors import UsageError
from slyther_cli.models import registry
from slyther_cli.research.training.regularisation import consistency, drop_channels

SMALL = {
    "d_model": 16,
    "n_layers": 2,
    "d_ffn": 32,
    "vocab": 7,
    "decoder": "none",
    "n_heads": 2,
    "dropout": 0.0,
}


def logits(seed, shape=(4, 9, 7)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_consistency_is_the_divergence_both_ways_of_frames_that_exist():
    log_probs, frames = logits(0).log_softmax(-1), torch.tensor([9, 4, 9, 4])
    wanted = 0.0
    for one, other in ((0, 2), (2, 0), (1, 3), (3, 1)):
        p, q = (log_probs[i, : frames[i]] for i in (one, other))
        wanted += float((q.exp() * (q - p)).sum())
    assert float(consistency(log_probs, frames)) == pytest.approx(wanted, rel=1e-5)
    same = log_probs[:2].repeat(2, 1, 1)
    assert float(consistency(same, frames)) == pytest.approx(0, abs=1e-5)


def test_each_view_is_drawn_to_the_other_which_is_held_still():
    raw, frames = logits(1, (2, 3, 7)).requires_grad_(), torch.tensor([3, 3])
    consistency(raw.log_softmax(-1), frames).backward()
    p = raw.detach().softmax(-1)
    assert torch.allclose(raw.grad, p - p.flip(0), atol=1e-6)  # of the cross-entropy to the other's


@pytest.mark.parametrize("architecture", ["conmamba", "conformer"])
def test_an_utterance_loses_channels_while_training_alone(architecture):
    model = registry.build(architecture, registry.full_config(architecture, SMALL))
    layers = model.transformer.encoder.layers
    seen = []
    x = logits(2, (3, 40, 80))
    model.eval()
    with torch.inference_mode():
        before = model(x)
        drop_channels(layers, 0.5)
        assert torch.equal(model(x), before)
    layers[0].ffn_module1.register_forward_hook(lambda m, i, y: seen.append(y))
    model.train()
    (model(x) ** 2).sum().backward()
    gone = seen[0].detach() == 0
    assert torch.equal(gone.all(1), gone.any(1))  # in all frames or in none
    assert 8 < int(gone[:, 0].sum()) < 40 and not torch.equal(gone[0, 0], gone[1, 0])
    torch.manual_seed(3)
    first = model(x)
    torch.manual_seed(3)
    assert torch.equal(model(x), first)


def test_only_layers_with_these_branches_lose_channels():
    with pytest.raises(UsageError, match="channel_dropout"):
        drop_channels([torch.nn.Linear(2, 2)], 0.1)
