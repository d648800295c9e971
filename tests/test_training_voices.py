"""The auxiliary loss of separators that tells voices apart where one speaks alone."""

import pytest
import torch
import torch.nn.functional as F

from slyther_cli.errors import UsageError
from slyther_cli.models.mamba_tasnet import MambaTasNet, MambaTasNetConfig
from slyther_cli.research.training.separation import BatchConfig
from slyther_cli.research.training.voices import FEWEST, VoiceLoss, clustering_loss, who_alone

SIZES = MambaTasNetConfig(n_filters=16, kernel_size=16, stride=8, d_model=16, n_layers=4, d_state=4)


def turns(frames: int = 60) -> torch.Tensor:
    """[1, 2, 3 * frames]: the first alone, the second alone, both at once."""
    alone = torch.zeros(1, 2, 3 * frames)
    alone[0, 0, :frames] = alone[0, 1, frames : 2 * frames] = 1.0
    return alone


def test_who_alone_leaves_out_silence_overlap_and_leakage():
    first, second = torch.zeros(400), torch.zeros(400)
    first[:200] = torch.randn(200)
    second[100:300] = torch.randn(200)
    first[200:300] = 0.01 * torch.randn(100)  # 40 dB below: the second is alone there
    alone = who_alone(torch.stack([first, second])[None], stride=10)
    assert alone.shape == (1, 2, 39)
    assert alone[0, 0, :9].all() and not alone[0, 1, :9].any()
    assert alone[0, 1, 20:29].all() and not alone[0, 0, 20:29].any()
    assert alone[0, :, 10:19].sum() <= 2  # both talk; a frame may happen to be one's
    assert not alone[0, :, 31:].any()


def test_loss_is_nothing_for_voices_at_right_angles_and_a_half_for_frames_that_are_alike():
    alone = turns()
    apart = F.one_hot(torch.arange(180) // 60, 4).float()[None]  # overlap points a third way: not counted
    assert clustering_loss(apart, alone).item() == pytest.approx(0.0, abs=1e-6)
    assert clustering_loss(torch.ones(1, 180, 4) / 2, alone).item() == pytest.approx(0.5, abs=1e-6)


def test_loss_equals_its_definition_over_pairs_of_frames():
    torch.manual_seed(0)
    voices, alone = F.normalize(torch.randn(2, 180, 8), dim=-1), turns().repeat(2, 1, 1)
    alone[1, 0, 30:60] = 0  # fewer frames of one voice: they count the more
    expected = 0.0
    for v, a in zip(voices, alone, strict=True):
        for i in range(2):
            for j in range(2):
                likeness = v[a[i] > 0] @ v[a[j] > 0].T
                expected += (likeness - float(i == j)).square().mean() / 4 / 2
    assert clustering_loss(voices, alone).item() == pytest.approx(float(expected), rel=1e-5)


def test_example_without_two_lone_voices_does_not_count():
    alone = turns()
    alone[0, 1, 60 + FEWEST - 1 : 120] = 0
    voices = F.normalize(torch.randn(1, 180, 8, requires_grad=True), dim=-1)
    assert clustering_loss(voices, alone).item() == 0.0
    both = clustering_loss(torch.cat([voices, voices]), torch.cat([alone, turns()]))
    assert torch.equal(both, clustering_loss(voices, turns()))


def test_network_learns_to_tell_voices_by_this_loss_alone():
    torch.manual_seed(1)
    model = MambaTasNet(SIZES)
    listen, rate = VoiceLoss(model), 8000
    time = torch.arange(rate) / rate
    high, low = torch.sin(2 * torch.pi * 1500 * time), torch.sin(2 * torch.pi * 200 * time)
    turn = ((torch.arange(rate) // 1000) % 2).float()
    sources = torch.stack([high * turn, low * (1 - turn)])[None]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        model(sources.sum(1))
        loss = listen(sources)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.1
    assert losses[-1] < losses[0] / 4


def test_weight_below_zero_is_refused():
    with pytest.raises(UsageError, match="voices 0 or more"):
        BatchConfig(voices=-1.0)
