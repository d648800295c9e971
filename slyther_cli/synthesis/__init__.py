"""Speech synthesis: a text or a book in, sound files out.

``job`` is the Python API; ``tracks`` says which sentences go into which file, ``narration`` reads them,
``speaker`` says each, ``speech_file`` makes sound, subtitles (``word_times``) and marks of chapters of them,
``output`` writes. ``prompt`` and ``voices`` are the voice to speak in; ``speech_check`` listens whether a
sentence was said wholly and once; ``voice_matching`` brings the result nearer to the prompt; ``journal``
keeps finished sentences for ``--resume``. This file imports nothing.
"""
