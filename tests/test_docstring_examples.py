"""The examples in docstrings give what they say."""

import doctest
import importlib

import pytest

MODULES = (
    "audio.discover",
    "commands.parsing",
    "decode.align",
    "decode.ctc",
    "decode.subtitles",
    "decode.tokens",
    "english.markup",
    "english.normalise",
    "english.sentences",
    "english.written",
    "jobs.inputs",
    "models.registry",
    "research.evaluation.metrics",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name):
    failed, tried = doctest.testmod(importlib.import_module(f"slyther_cli.{name}"))
    assert tried and not failed
