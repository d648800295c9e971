"""Shared by all tests. Without a GPU, Triton kernels run in Triton's interpreter (see test_scan.py)."""

import os

import torch

if not torch.cuda.is_available():  # has to be set before triton is first imported
    os.environ.setdefault("TRITON_INTERPRET", "1")
