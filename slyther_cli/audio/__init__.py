"""Sound files in and out, as streams of blocks in constant memory.

``reader`` gives any sound file or stdin as mono float32 blocks at the rate asked for; ``writer``
puts stems on disk, whole or not at all; ``resample`` is the streamed rate change that both share;
``containers`` looks into a file and chooses what decodes it: libsndfile, or where that would lose sound
``mp3``, ``ogg``, ``flac`` and ``ffmpeg``, which put silence (``decoded``) where nothing can be read; ``wav``
is the WAV file format;
``discover`` turns command line arguments into input files and templates into output paths.

What may not live here: torch, models, anything that holds a whole recording in memory. This file
imports nothing, so that ``slyther --help`` stays fast.
"""
