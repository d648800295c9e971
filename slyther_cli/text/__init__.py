"""From log-probabilities to text with true times, and from text to files.

``tokens`` are the alphabets; ``ctc`` decodes in a stream, greedily or by prefix beam; ``align`` finds
when each token of a known text was said; ``words`` joins tokens into words timed in samples;
``segments`` groups words into readable cues; ``subtitles`` and ``transcript`` write whisper's file
formats; ``ngram`` scores words, ``kneser_ney`` trains it, ``arpa`` exchanges it.

What may not live here: audio, networks, torch at import time, anything that grows with the recording.
This file imports nothing, so that ``slyther --help`` stays fast.
"""
