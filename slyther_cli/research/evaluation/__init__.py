"""Scores where the answer is known: separation, recognition, synthesis, codecs."""
