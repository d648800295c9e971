"""Speech synthesis: text in, a sound file out.

``job`` speaks a text sentence by sentence; ``prompt`` is the voice to speak in; ``speech_check`` listens
whether a sentence was said wholly and once; ``voice_matching`` brings the result nearer to the prompt;
``journal`` keeps finished sentences for ``--resume``; ``output`` writes. This file imports nothing.
"""
