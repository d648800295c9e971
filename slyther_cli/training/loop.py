"""The training loop: optimizers, schedule, checkpoints, progress. Knows a task only by a few calls.

A task offers ``model`` (a module), ``loss(step) -> (scalar tensor, metric float)`` for the batch of that step,
``validate() -> dict`` with a ``score`` (higher is better), and ``export(folder, metrics)``, which writes weights in
slyther's format. Batches are functions of the step number, so a resumed run goes on as if it had not stopped.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from slyther_cli.errors import ModelError
from slyther_cli.training.muon import Muon


@dataclass(frozen=True)
class LoopConfig:
    """``steps`` or ``minutes``, whichever is reached first, also drives the cosine from ``lr`` to 1 % of it.

    ``optimizer``: "adamw", or "muon" for the inner weight matrices with AdamW for the rest (Muon's rate is ``muon_lr``).
    ``average``: decay of the running average of the weights, which is what is validated and exported; 0 is off.
    """

    steps: int = 200_000
    minutes: float = 0.0
    warmup: int = 500
    optimizer: str = "adamw"
    lr: float = 1.5e-3
    muon_lr: float = 0.02
    weight_decay: float = 0.0
    clip: float = 5.0
    average: float = 0.999
    save_minutes: float = 3.0
    validate_minutes: float = 10.0
    log_seconds: float = 20.0
    seed: int = 0


class Task(Protocol):
    model: nn.Module

    def loss(self, step: int) -> tuple[Tensor, float]: ...

    def validate(self) -> dict[str, Any]: ...

    def export(self, folder: Path, metrics: dict[str, Any]) -> None: ...


class Optimizers:
    """One or two torch optimizers under one learning-rate factor."""

    def __init__(self, model: nn.Module, c: LoopConfig):
        matrices, rest = [], []
        for name, p in model.named_parameters():
            inner = p.dim() == 2 and name.endswith((".in_proj.weight", ".out_proj.weight", "x_proj.weight", "x_proj_b.weight"))
            (matrices if inner and c.optimizer == "muon" else rest).append(p)
        self.all: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, lr=c.lr, betas=(0.9, 0.98), weight_decay=c.weight_decay)
        ]
        if matrices:
            self.all.append(Muon(matrices, lr=c.muon_lr, weight_decay=c.weight_decay))
        elif c.optimizer != "adamw":
            raise ModelError(f"unknown optimizer {c.optimizer!r}; choose adamw or muon")
        self.base = [o.param_groups[0]["lr"] for o in self.all]

    def step(self, factor: float) -> None:
        for optimizer, base in zip(self.all, self.base, strict=True):
            optimizer.param_groups[0]["lr"] = base * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> list[dict]:
        return [o.state_dict() for o in self.all]

    def load(self, states: list[dict]) -> None:
        for o, s in zip(self.all, states, strict=True):
            o.load_state_dict(s)


class Peers:
    """The processes that share one training run; each computes its own batch and all take the mean gradient.

    On a CPU two processes of one thread beat one of two threads: every operation runs in parallel, not only the large ones.
    """

    def __init__(self) -> None:
        self.rank, self.count = 0, 1
        if dist.is_available() and dist.is_initialized():
            self.rank, self.count = dist.get_rank(), dist.get_world_size()

    def mean_gradients(self, model: nn.Module, progress: float) -> float:
        """Average the gradients of all; return the first process's ``progress``, so that all agree on it."""
        if self.count == 1:
            return progress
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
        mine = torch.tensor([progress * self.count if self.rank == 0 else 0.0])
        flat = torch.cat([g.flatten() for g in grads] + [mine])
        dist.all_reduce(flat)
        flat /= self.count
        at = 0
        for p in model.parameters():
            p.grad = flat[at : at + p.numel()].view_as(p)
            at += p.numel()
        return float(flat[-1])


def train(task: Task, c: LoopConfig, folder: Path, resume: bool, on_event: Callable[[dict], None]) -> None:
    """Train until the budget is spent. Writes ``last.pt`` (all state), ``last/`` and ``best/`` (weights) and
    ``log.jsonl`` into ``folder``. Raises :class:`ModelError` when there is a run and ``resume`` is not set."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "last.pt"
    peers = Peers()
    leads = peers.rank == 0
    if checkpoint.exists() and not resume:
        raise ModelError(f"{folder} holds a run already; use --resume to go on, or another folder")
    torch.manual_seed(c.seed)
    model, optimizers = task.model, Optimizers(task.model, c)
    averaged = {k: v.detach().clone() for k, v in model.state_dict().items()}
    done, spent, best = 0, 0.0, -math.inf
    if resume and checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizers.load(saved["optimizers"])
        averaged, done, spent, best = saved["averaged"], saved["step"], saved["seconds"], saved["best"]
    log = open(folder / "log.jsonl" if leads else os.devnull, "a", encoding="utf-8")  # noqa: SIM115

    def emit(event: dict) -> None:
        event = {"step": step, "minutes": round(seconds() / 60, 2), **event}
        log.write(json.dumps(event) + "\n")
        log.flush()
        if leads:
            on_event(event)

    start = time.monotonic()

    def seconds() -> float:
        return spent + time.monotonic() - start

    def progress() -> float:
        by_time = seconds() / 60 / c.minutes if c.minutes else 0.0
        return min(1.0, max(step / c.steps, by_time))

    def save() -> None:
        state = {"model": model.state_dict(), "optimizers": optimizers.state(), "averaged": averaged}
        state |= {"step": step, "seconds": seconds(), "best": best}
        partial = folder / f"last.pt.{os.getpid()}"
        torch.save(state, partial)
        os.replace(partial, checkpoint)

    def validate() -> None:
        nonlocal best
        live = {k: v.detach().clone() for k, v in model.state_dict().items()}
        model.load_state_dict(averaged)
        model.eval()
        metrics = task.validate()
        emit({"event": "validate", **metrics})
        task.export(folder / "last", {"step": step, **metrics})
        if metrics["score"] > best:
            best = metrics["score"]
            task.export(folder / "best", {"step": step, **metrics})
        model.load_state_dict(live)
        model.train()

    step = done
    model.train()
    last_save = last_valid = last_log = time.monotonic()
    losses: list[float] = []
    while True:
        loss, metric = task.loss(step)
        loss.backward()
        passed = peers.mean_gradients(model, progress())
        if passed >= 1.0:
            break
        norm = nn.utils.clip_grad_norm_(model.parameters(), c.clip)
        warm = min(1.0, (step + 1) / max(1, c.warmup))
        factor = warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * passed)))
        if torch.isfinite(norm):
            optimizers.step(factor)
            losses.append(metric)
        else:  # one bad batch must not end a run of hours
            for optimizer in optimizers.all:
                optimizer.zero_grad(set_to_none=True)
            emit({"event": "skipped", "why": "the gradient is not finite"})
        decay = min(c.average, (1 + step) / (10 + step))
        for key, value in model.state_dict().items():
            averaged[key].lerp_(value, 1 - decay)
        step += 1
        now = time.monotonic()
        if now - last_log > c.log_seconds and losses:
            emit({"event": "train", "metric": round(sum(losses) / len(losses), 3), "grad": round(float(norm), 3)})
            losses, last_log = [], now
        if leads and now - last_valid > c.validate_minutes * 60:
            validate()
            last_valid = time.monotonic()
        if leads and now - last_save > c.save_minutes * 60:
            save()
            last_save = time.monotonic()
    if leads:
        validate()
        save()
    log.close()
