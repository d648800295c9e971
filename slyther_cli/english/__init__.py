"""English text as it is said: for speech synthesis, and to compare transcripts.

``normalise`` writes numbers, money, dates and abbreviations in words (``amounts``, ``numbers``, ``times``
are its rules); ``written`` writes them in figures again; ``sentences`` splits a text; ``markup`` removes
tags; ``phonemes`` turns words into the symbols that a voice reads, by the ``dictionary``, the user's
``pronunciations`` or ``letter_rules``. This file imports nothing.
"""
