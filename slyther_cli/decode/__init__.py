"""From log-probabilities to text with times, and from text to files.

``tokens`` are the alphabets; ``ctc`` decodes in a stream, greedily or by prefix beam search (``native_beam``
is the compiled one, ``hypotheses`` what the beam holds); ``joint`` decodes with an attention decoder;
``align`` and ``realign`` find when each token was said; ``words`` joins tokens into timed words; ``segments``
groups words into readable cues; ``speech_filter`` leaves out segments that do not sound like speech;
``subtitles`` and ``transcript`` write whisper's file formats; ``ngram`` scores words, ``arpa`` exchanges
n-gram models.

What may not live here: audio, networks, torch at import time, anything that grows with the recording. This
file imports nothing, so that ``slyther --help`` stays fast.
"""
