"""The dual-path mask network as papers.md 1.2 describes it, chunk by chunk, in loops: slow, independent of
``layers.dual_path``, channels first as in the checkpoints."""

import torch
from torch.nn import functional as F


def masks(w, p, chunk, n_blocks, skip, n_speakers, intra, inter):
    """w [frames, d] and the mask network's tensors ``p`` -> [n_speakers, frames, d]. ``intra(j, x)`` and
    ``inter(j, x)`` are the models of block ``j`` on one sequence [length, d]."""
    frames, d = w.shape
    half = chunk // 2
    x = F.conv1d(norm(w.T, p["norm.weight"], p["norm.bias"]), p["conv1d.weight"])
    total = half + frames
    total += chunk - total % chunk  # at least one frame of zeros behind
    padded = torch.zeros(d, total + half, dtype=w.dtype)
    padded[:, half : half + frames] = x
    starts = range(0, total + half - chunk + 1, half)
    x = torch.stack([padded[:, s : s + chunk] for s in starts], -1)  # [d, K, S]
    for j in range(n_blocks):
        y = torch.stack([intra(j, x[:, :, s].T).T for s in range(x.shape[2])], 2)
        y = norm(y, p[f"dual_mdl.{j}.intra_norm.weight"], p[f"dual_mdl.{j}.intra_norm.bias"])
        y = y + x if skip else y
        z = torch.stack([inter(j, y[:, k].T).T for k in range(chunk)], 1)
        x = norm(z, p[f"dual_mdl.{j}.inter_norm.weight"], p[f"dual_mdl.{j}.inter_norm.bias"]) + y
    x = F.conv2d(F.prelu(x[None], p["prelu.weight"]), p["conv2d.weight"], p["conv2d.bias"])[0]
    out = []
    for speaker in x.split(d):
        whole = torch.zeros_like(padded)
        for s, start in enumerate(starts):
            whole[:, start : start + chunk] += speaker[:, :, s]
        y = whole[:, half : half + frames]
        tanh = torch.tanh(F.conv1d(y, p["output.0.weight"], p["output.0.bias"]))
        gate = torch.sigmoid(F.conv1d(y, p["output_gate.0.weight"], p["output_gate.0.bias"]))
        out.append(F.relu(F.conv1d(tanh * gate, p["end_conv1x1.weight"])).T)
    return torch.stack(out)


def norm(x, weight, bias):
    return F.group_norm(x[None], 1, weight, bias, 1e-8)[0]


def names(n, n_blocks, n_speakers, model):
    """papers.md 3.1: names and shapes of encoder, decoder and mask network; ``model`` those of one inner
    model."""
    out = {"encoder.conv1d.weight": (n, 1, 16), "decoder.weight": (n, 1, 16)}
    mask = {"conv1d.weight": (n, n, 1), "end_conv1x1.weight": (n, n, 1), "prelu.weight": (1,)}
    mask |= {"conv2d.weight": (n_speakers * n, n, 1, 1), "conv2d.bias": (n_speakers * n,)}
    for name in ("output.0", "output_gate.0"):
        mask |= {f"{name}.weight": (n, n, 1), f"{name}.bias": (n,)}
    norms = ["norm"]
    for j in range(n_blocks):
        for part in ("intra", "inter"):
            norms.append(f"dual_mdl.{j}.{part}_norm")
            mask |= {f"dual_mdl.{j}.{part}_mdl.{k}": shape for k, shape in model.items()}
    for name in norms:
        mask |= {f"{name}.weight": (n,), f"{name}.bias": (n,)}
    return out | {f"masknet.{k}": shape for k, shape in mask.items()}
