"""Batches made ahead of their step."""

import os
import threading
import time

import pytest
import torch

from slyther_cli.research.training import loader
from slyther_cli.research.training.loader import DEPTH, BatchLoader


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_a_batch_is_that_of_its_step(device, monkeypatch):
    monkeypatch.setattr(loader.runtime, "cores", lambda: 3)
    made: list[int] = []
    threads: set[int] = set()

    def make(step):
        made.append(step)
        threads.add(threading.get_ident())
        time.sleep(0.002 * (step % 3))  # some are ready before those asked for first
        if step == 5:
            raise ValueError("the sixth")
        return step * step

    batches = BatchLoader(make, device)
    for step in range(5):
        assert batches(step) == step * step
    with pytest.raises(ValueError, match="the sixth"):
        batches(5)
    assert batches(6) == 36
    assert sorted(made) == sorted(set(made)) and max(made) <= 6 + max(DEPTH, 6)  # each once, not far ahead
    assert len(threads) == 1 if device == "cpu" else 1 < len(threads) <= 3


@pytest.mark.parametrize("device, processes", [("cpu", True), ("cuda:0", False), ("cuda:0", True)])
@pytest.mark.filterwarnings("ignore:.*(pin_memory|fork)")
def test_a_run_may_begin_anywhere(device, processes, monkeypatch):
    monkeypatch.setattr(loader.runtime, "cores", lambda: 4)

    def make(step):
        return torch.tensor([step, os.getpid() if step < 9 else 1 // 0])

    batches = BatchLoader(make, device, processes)
    found = [batches(step).tolist() for step in (7, 8, 3, 4)]
    assert [step for step, _ in found] == [7, 8, 3, 4]
    own = all(who == os.getpid() for _, who in found)
    assert own == (device == "cpu" or not processes)
    for step in range(5, 9):
        batches(step)
    with pytest.raises(ZeroDivisionError):
        batches(9)
