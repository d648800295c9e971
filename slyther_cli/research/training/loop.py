"""The training loop: optimizers, schedule, checkpoints, progress. Knows a task only by a few calls.

A task offers ``model`` (a module), ``loss(step) -> (scalar tensor, metric float)`` for the batch of that
step, ``validate() -> dict`` with a ``score`` (higher is better), and ``export(folder, metrics)``, which
writes weights in slyther's format; perhaps ``alphabet``, a text that a resumed run must have as it was.
Batches and dropout are functions of the step number, so a resumed run goes on as if it had not stopped: with
a schedule by steps and one worker, bit for bit.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from slyther_cli.errors import ModelError, OutputError, UsageError
from slyther_cli.files import whole
from slyther_cli.research.training.muon import Muon


@dataclass(frozen=True)
class LoopConfig:
    """``steps`` or ``minutes``, whichever is reached first, also drives the cosine from ``lr`` to 1 % of it.

    ``optimizer``: "adamw", or "muon" for the inner weight matrices with AdamW for the rest (Muon's rate is
    ``muon_lr``); ``lr_of``: AdamW's rate for the parameters whose names begin so, instead of ``lr``; 0 leaves
    them as they are; where AdamW has none of that name it is refused. ``average``: decay of the running
    average of the weights, which is what is validated and exported; 0 is off. ``clip``: the largest norm of a
    gradient. ``precision``: "fp32", or "bf16" for the products of matrices (torch's autocast, and Muon's;
    faster where the processor has instructions for it).
    Raises :class:`UsageError` on values without a meaning.
    """

    steps: int = 200_000
    minutes: float = 0.0
    warmup: int = 500
    optimizer: str = "adamw"
    lr: float = 1.5e-3
    muon_lr: float = 0.02
    lr_of: dict[str, float] = field(default_factory=dict)
    weight_decay: float = 0.0
    clip: float = 5.0
    average: float = 0.999
    precision: str = "fp32"
    save_minutes: float = 3.0
    validate_minutes: float = 10.0
    log_seconds: float = 20.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in ("adamw", "muon"):
            raise UsageError(f"unknown optimizer {self.optimizer!r}; choose adamw or muon")
        if self.precision not in ("fp32", "bf16"):
            raise UsageError(f"unknown precision {self.precision!r}; choose fp32 or bf16")
        if self.steps < 1 or min(self.minutes, self.warmup, self.seed) < 0:
            raise UsageError("steps must be 1 or more; minutes, warmup and seed 0 or more")
        if not all(type(rate) in (int, float) and rate >= 0 for rate in self.lr_of.values()):
            raise UsageError("lr_of must hold numbers, 0 or more")
        if min(self.lr, self.muon_lr, self.clip) <= 0 or not 0 <= self.average < 1:
            raise UsageError("lr, muon_lr and clip must be above 0; average from 0 to below 1")


class Task(Protocol):
    model: nn.Module

    def loss(self, step: int) -> tuple[Tensor, float]: ...

    def validate(self) -> dict[str, Any]: ...

    def export(self, folder: Path, metrics: dict[str, Any]) -> None: ...


STATE = "last.pt"
UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, EOFError, TypeError, pickle.UnpicklingError)
INNER = (
    *(".in_proj.weight", ".out_proj.weight", ".x_proj.weight", ".x_proj_b.weight"),  # Mamba
    *(".in_proj_weight", ".linear_pos.weight", ".output_proj.weight"),  # attention; ExtBiMamba
    *(".ffn.0.weight", ".ffn.2.weight", ".ffn.3.weight", ".after_conv.2.weight"),  # feed-forward, convolution
)
"""The matrices that Muon takes."""
GIVE_UP = 50  # batches without a finite gradient in a row: the weights are past saving


class Optimizers:
    """One or two torch optimizers under one learning-rate factor."""

    def __init__(self, model: nn.Module, c: LoopConfig):
        matrices: list[nn.Parameter] = []
        rest: dict[float, list[nn.Parameter]] = {c.lr: []}  # by their rate
        unused = set(c.lr_of)
        for name, p in model.named_parameters():
            if c.optimizer == "muon" and p.dim() == 2 and name.endswith(INNER):
                matrices.append(p)
                continue
            start = next((start for start in c.lr_of if name.startswith(start)), None)
            unused.discard(start)
            rate = c.lr if start is None else c.lr_of[start]
            if rate:
                rest.setdefault(rate, []).append(p)
            else:
                p.requires_grad_(False)
        if unused:
            names = ", ".join(sorted(unused))
            raise UsageError(f"lr_of: of AdamW's parameters without a rate yet none begins with {names}")
        groups = [{"params": params, "lr": rate} for rate, params in rest.items()]
        fused = next(model.parameters()).is_cuda  # one kernel instead of hundreds
        self.all: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=c.weight_decay, fused=fused)
        ]
        if matrices:
            dtype = torch.bfloat16 if c.precision == "bf16" else torch.float32
            self.all.append(Muon(matrices, lr=c.muon_lr, weight_decay=c.weight_decay, dtype=dtype))
        self.base = [[g["lr"] for g in o.param_groups] for o in self.all]

    def step(self, factor: float) -> None:
        for optimizer, rates in zip(self.all, self.base, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.step()
        self.zero()

    def zero(self) -> None:
        for optimizer in self.all:
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> list[dict]:
        return [o.state_dict() for o in self.all]

    def load(self, states: list[dict], weight_decay: float) -> None:
        for o, s in zip(self.all, states, strict=True):
            o.load_state_dict(s)
            for group in o.param_groups:  # which come from the state; rates are set at every step
                group["weight_decay"] = weight_decay


class Peers:
    """The processes that share one training run; each computes its own batch and all take the mean gradient.

    On a CPU two processes of one thread beat one of two threads: every operation runs in parallel, not only
    the large ones.
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
        mine = grads[0].new_tensor([progress * self.count if self.rank == 0 else 0.0])
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
    ``log.jsonl`` into ``folder``; stopped by Ctrl-C or a signal, it saves ``last.pt`` first.

    Raises :class:`ModelError`: there is a run and ``resume`` is not set, its state is damaged or another
    model's, or training diverged; :class:`OutputError`: ``folder`` cannot be written.
    """
    leads = Peers().rank == 0
    with keeping(folder), open(folder / "log.jsonl" if leads else os.devnull, "a", encoding="utf-8") as log:

        def tell(event: dict) -> None:
            log.write(json.dumps(event) + "\n")
            log.flush()
            if leads:
                on_event(event)

        _Run(task, c, folder, resume, tell).go()


@contextlib.contextmanager
def keeping(folder: Path) -> Iterator[None]:
    """Make ``folder``; whatever cannot be written inside the context is an :class:`OutputError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BrokenPipeError:  # of whoever listens
        raise
    except OSError as error:
        raise OutputError(f"{folder} cannot hold the run: {error.strerror or error}") from None


class _Run:
    """The state of a run between two steps, and the step."""

    def __init__(self, task: Task, c: LoopConfig, folder: Path, resume: bool, tell: Callable[[dict], None]):
        self.task, self.model, self.c, self.folder, self.tell = task, task.model, c, folder, tell
        self.peers = Peers()
        self.leads = self.peers.rank == 0
        self.where = next(self.model.parameters()).device.type
        torch.manual_seed(c.seed)
        self.optimizers = Optimizers(self.model, c)
        self.averaged = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.step, self.spent, self.best, self.skipped = 0, 0.0, -math.inf, 0
        self.alphabet = getattr(task, "alphabet", "")
        check_folder(folder, resume)
        if (folder / STATE).exists():
            self._load()
        self.started = time.monotonic()

    def _load(self) -> None:
        path = self.folder / STATE
        where = next(self.model.parameters()).device
        try:
            saved = torch.load(path, weights_only=True, map_location=where)
            self.model.load_state_dict(saved["model"])
            self.optimizers.load(saved["optimizers"], self.c.weight_decay)
            alphabet = saved.get("alphabet", self.alphabet)
            self.averaged, self.step = saved["averaged"], saved["step"]
            self.spent, self.best = saved["seconds"], saved["best"]
        except UNREADABLE as error:
            why = " ".join(str(error).split())[:160]
            raise ModelError(f"{path} cannot be resumed, it is damaged or another model's: {why}") from None
        if alphabet != self.alphabet:
            raise ModelError(
                f"{path} cannot be resumed: its texts were other ones, and the alphabet learnt from them too"
            )

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizers": self.optimizers.state(),
            "averaged": self.averaged,
            "step": self.step,
            "seconds": self._seconds(),
            "best": self.best,
            "alphabet": self.alphabet,
        }
        try:
            with whole(self.folder / STATE, part=f".{STATE}.part") as file:
                torch.save(state, file)
        except (OSError, RuntimeError) as error:  # torch's own writer says RuntimeError of a full disk
            why = getattr(error, "strerror", None) or "is the disk full?"
            raise OutputError(f"{self.folder / STATE} cannot be written: {why}") from None

    def _seconds(self) -> float:
        return self.spent + time.monotonic() - self.started

    def _progress(self) -> float:
        """The share of the budget that is spent, 0 to 1."""
        by_time = self._seconds() / 60 / self.c.minutes if self.c.minutes else 0.0
        return min(1.0, max(self.step / self.c.steps, by_time))

    def _emit(self, event: str, **details: Any) -> None:
        self.tell({"step": self.step, "minutes": round(self._seconds() / 60, 2), "event": event, **details})

    def _validate(self) -> None:
        """Score and export the averaged weights."""
        live = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.averaged)
        self.model.eval()
        try:
            metrics = self.task.validate()
            self._emit("validate", **metrics)
            self.task.export(self.folder / "last", {"step": self.step, **metrics})
            if metrics["score"] >= self.best:
                self.best = metrics["score"]
                self.task.export(self.folder / "best", {"step": self.step, **metrics})
        finally:  # a stopped run saves the live weights
            self.model.load_state_dict(live)
            self.model.train()

    def _update(self, passed: float) -> float:
        """One step of the optimizers and of the average with the gradients at hand; their norm."""
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.c.clip)
        warm = min(1.0, (self.step + 1) / max(1, self.c.warmup))
        if torch.isfinite(norm):
            self.optimizers.step(warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * passed))))
            self.skipped = 0
        else:  # one bad batch must not end a run of hours
            self.optimizers.zero()
            self.skipped += 1
        decay = min(self.c.average, (1 + self.step) / (10 + self.step))
        live = self.model.state_dict()
        torch._foreach_lerp_(list(self.averaged.values()), [live[k] for k in self.averaged], 1 - decay)
        self.step += 1
        return float(norm)

    def go(self) -> None:
        """To the end of the budget."""
        settled = True  # whether the state is that between two steps, and may be saved
        self.model.train()
        last_save = last_valid = last_log = time.monotonic()
        losses: list[tuple[float, float]] = []
        try:
            while True:
                torch.manual_seed((self.c.seed * 1_000_003 + self.step) * 1024 + self.peers.rank)  # dropout
                with torch.autocast(self.where, torch.bfloat16, enabled=self.c.precision == "bf16"):
                    loss, metric = self.task.loss(self.step)
                loss.backward()
                passed = self.peers.mean_gradients(self.model, self._progress())
                if passed >= 1.0:
                    break
                settled = False
                norm = self._update(passed)
                settled = True
                if self.skipped:
                    self._emit("skipped", why="the gradient is not finite")
                    if self.skipped >= GIVE_UP:
                        raise ModelError(
                            f"training diverged: {GIVE_UP} gradients in a row were not finite; lower lr"
                        )
                else:
                    losses.append((float(loss.detach()), metric))
                now = time.monotonic()
                if now - last_log > self.c.log_seconds and losses:
                    value, score = (round(sum(x) / len(losses), 3) for x in zip(*losses, strict=True))
                    self._emit(
                        "train", loss=value, metric=score, grad=round(norm, 3), progress=round(passed, 4)
                    )
                    losses, last_log = [], now
                if self.leads and now - last_valid > self.c.validate_minutes * 60:
                    self._validate()
                    last_valid = time.monotonic()
                if self.leads and (last_valid > now or now - last_save > self.c.save_minutes * 60):
                    self._save()
                    last_save = time.monotonic()
        except BaseException as stop:
            if self.leads and settled and not isinstance(stop, Exception):  # Ctrl-C, a signal
                self._save()
            raise
        if self.leads:
            self._validate()
            self._save()


def check_folder(folder: Path, resume: bool) -> None:
    """Raises :class:`ModelError` when ``folder`` holds a run that is not to be gone on with."""
    if (folder / STATE).exists() and not resume:
        raise ModelError(f"{folder} holds a run already; use --resume to go on, or another folder")
