"""Batches made ahead of their step."""

import threading
import time

import pytest

from slyther_cli.training import ahead
from slyther_cli.training.ahead import DEPTH, Ahead


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_a_batch_is_that_of_its_step(device, monkeypatch):
    monkeypatch.setattr(ahead.os, "cpu_count", lambda: 3)
    made: list[int] = []
    threads: set[int] = set()

    def make(step):
        made.append(step)
        threads.add(threading.get_ident())
        time.sleep(0.002 * (step % 3))  # some are ready before those asked for first
        if step == 5:
            raise ValueError("the sixth")
        return step * step

    batches = Ahead(make, device)
    for step in range(5):
        assert batches(step) == step * step
    with pytest.raises(ValueError, match="the sixth"):
        batches(5)
    assert batches(6) == 36
    assert sorted(made) == sorted(set(made)) and max(made) <= 6 + max(DEPTH, 6)  # each once, not far ahead
    assert len(threads) == 1 if device == "cpu" else 1 < len(threads) <= 3


def test_a_run_may_begin_anywhere():
    batches = Ahead(lambda step: step)
    assert [batches(7), batches(8), batches(3)] == [7, 8, 3]
