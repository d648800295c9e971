"""Separation: recordings in, one sound file a speaker out.

``job`` separates recordings; ``live`` separates sound as it comes; ``options`` are what
users may ask for. This file imports nothing.
"""
