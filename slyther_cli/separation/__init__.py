"""Separation: recordings in, one sound file a speaker out.

``job`` separates recordings; ``live`` separates sound as it comes. This file imports nothing.
"""
