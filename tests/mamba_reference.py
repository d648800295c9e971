"""BiMamba and its pre-norm stack as papers.md 0 describes them: one direction after the other, one step after
the other, in plain torch. Slow, and independent of ``layers.mamba`` and of the scan."""

import torch
from torch.nn import functional as F


def bimamba(p, x):
    """x [length, d]; ``p`` the mixer's tensors by their published names -> [length, d]."""
    n = p["A_log"].shape[1]
    both, z = (x @ p["in_proj.weight"].T).chunk(2, -1)
    total = 0
    for tail, flip in (("", False), ("_b", True)):
        u = both.flip(0) if flip else both
        past, taps = F.pad(u, (0, 0, 3, 0)), p[f"conv1d{tail}.weight"][:, 0]
        u = F.silu(sum(past[k : k + len(u)] * taps[:, k] for k in range(4)) + p[f"conv1d{tail}.bias"])
        rank = p[f"dt_proj{tail}.weight"].shape[1]
        low, B, C = (u @ p[f"x_proj{tail}.weight"].T).split([rank, n, n], -1)
        dt = F.softplus(low @ p[f"dt_proj{tail}.weight"].T + p[f"dt_proj{tail}.bias"])
        A, h, rows = -p[f"A{tail}_log"].exp(), torch.zeros(u.shape[1], n), []
        for t in range(len(u)):
            h = (dt[t, :, None] * A).exp() * h + (dt[t] * u[t])[:, None] * B[t]
            rows.append(h @ C[t] + p[f"D{tail}"] * u[t])
        y = torch.stack(rows)
        total = total + 0.5 * (y.flip(0) if flip else y)
    return total * F.silu(z) @ p["out_proj.weight"].T


def stack(p, x):
    """x [length, d] through ``layers.i``: x + BiMamba(RMSNorm(x)), then ``norm_f``."""

    def rms(name, y):
        return y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * p[f"{name}.weight"]

    i = 0
    while f"layers.{i}.norm.weight" in p:
        x = x + bimamba(under(p, f"layers.{i}.mixer."), rms(f"layers.{i}.norm", x))
        i += 1
    return rms("norm_f", x)


def under(p, prefix):
    return {k.removeprefix(prefix): v for k, v in p.items() if k.startswith(prefix)}
