"""What the tests of whole recordings share: small models, layers of a kind that the engine has never seen."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from slyther_cli.layers.mamba import BiMamba
from slyther_cli.longform.halo import drain, feed
from slyther_cli.models.mamba_tasnet import MambaTasNet, MambaTasNetConfig

torch.set_num_threads(
    1
)  # products this small gain nothing from a second one, and lose much on a busy machine


def small_model(
    layers=2, *, causal=False, d_model=16, stride=4, speakers=2, consistent=False, overlap=2, seed=0
):
    """A MambaTasNet with random weights that are large enough for every layer to matter; its kernel is
    ``overlap`` strides."""
    torch.manual_seed(seed)
    config = MambaTasNetConfig(
        n_filters=12, kernel_size=overlap * stride, stride=stride, d_model=d_model, n_layers=layers,
        d_state=4, n_speakers=speakers, causal=causal, mixture_consistency=consistent,
    )  # fmt: skip
    model = MambaTasNet(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() > 1 and "A_" not in name:
                p.mul_(2)
    return model


def noise(samples, seed=0):
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32) * 0.3


def in_blocks(samples, size):
    """The recording as ``separate_whole`` wants it."""
    return lambda: (samples[i : i + size] for i in range(0, len(samples), size))


def off(y, reference):
    """The largest difference, relative to the largest value."""
    y, reference = torch.as_tensor(y), torch.as_tensor(reference)
    assert y.shape == reference.shape
    return float((y - reference).abs().max() / reference.abs().max().clamp(min=1e-30)) if y.numel() else 0.0


class LeakyLayer(nn.Module):
    """No Mamba: x + tanh(a left to right leaky sum, plus another from the right). Its state is one tensor."""

    def __init__(self, width, seed=0):
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.w = nn.Parameter(torch.randn(width, width + 3, generator=g) / width**0.5)
        self.back = nn.Parameter(torch.randn(width + 3, width, generator=g) / width**0.5)
        self.half_width = width + 3

    def project(self, x):
        return x

    def begin(self, x, state, reverse):
        u = x @ (self.w if not reverse else -self.w)
        h = torch.zeros(self.half_width) if state is None else state
        out = torch.empty(*x.shape[:2], self.half_width)
        for t in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
            h = 0.9 * h + u[0, t]
            out[0, t] = h
        return out, h

    def finish(self, x, projected, half, state, reverse):
        y, state = self.begin(projected, state, reverse)
        return x + torch.tanh(half + y) @ self.back, state

    def flush(self, state, reverse):
        return []

    def forward(self, x):
        one = self.begin(x, None, False)[0]
        return x + torch.tanh(one + self.begin(x, None, True)[0]) @ self.back


class ConvLayer(nn.Module):
    """As in ConMamba: BiMamba, then a convolution module (GLU, depthwise kernel 31, pointwise), each with a
    residual.
    """

    def __init__(self, width, kernel=31):
        super().__init__()
        self.mixer, self.norm = BiMamba(width, 4), nn.LayerNorm(width)
        self.norm2, self.enter = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, groups=width)
        self.leave = nn.Linear(width, width)
        self.halo, self.half_width = kernel // 2, self.mixer.d_inner

    def before(self, y):
        return F.glu(self.enter(self.norm2(y)))

    def after(self, u, y):
        return y + self.leave(F.silu(self.depthwise(u.transpose(1, 2)).transpose(1, 2)))

    def project(self, x):
        return self.mixer.project(self.norm(x))

    def begin(self, projected, state, reverse):
        return self.mixer.direction(projected, state, backward=reverse)

    def finish(self, x, projected, half, state, reverse):
        mamba, conv = state or (None, None)
        y, mamba = self.begin(projected, mamba, reverse)
        y = x + self.mixer.combine(half, y)
        ready, conv = feed((self.before(y), y), conv, self.halo, reverse)
        return ready and self.after(*ready), (mamba, conv)

    def flush(self, state, reverse):
        return [self.after(*ready) for ready in drain(state and state[1], self.halo, reverse)]

    def forward(self, x):
        y = x + self.mixer(self.norm(x))
        u = F.pad(self.before(y), (0, 0, self.halo, self.halo))
        return self.after(u, y)
