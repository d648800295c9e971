"""Transcription: recordings in, text with times out.

``job`` is the Python API, ``options`` what users may ask for, ``work`` what is done for one
recording; ``recogniser`` loads a model and puts network, decoder and language model together;
``multi_speaker`` transcribes each speaker and merges the transcripts; ``writer`` takes segments as they
become final; ``coverage`` checks that the transcript reaches as far as the speech. This file imports nothing.
"""
