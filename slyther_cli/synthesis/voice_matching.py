"""Sounding like the prompt: a model that has heard few voices says its words in a voice between theirs.

It is asked to say the prompt's own words. What then differs between its sound and the prompt's is not the
text, so a filter between both mean spectra (``audio.equalise``) moves all that it says towards the voice and
the room of the prompt. The filter is made once and stays: sentences do not differ by it.
"""

from __future__ import annotations

import torch

from slyther_cli.audio.equalise import WINDOW, Equaliser, matching_taps, mean_spectrum
from slyther_cli.models.codec import Codec
from slyther_cli.models.vall_sampling import Voicing


@torch.inference_mode()
def equaliser_for(voicing: Voicing, codec: Codec, seed: int) -> Equaliser | None:
    """The filter from what ``voicing`` sounds like to its prompt through the codec; None when the model says
    nothing that could be compared."""
    said = voicing.say(voicing.symbols, voicing.start(), seed)
    own, wanted = (codec.decode(c[None])[0].float().cpu().numpy() for c in (said.codes, voicing.codes))
    if min(len(own), len(wanted)) < WINDOW:
        return None
    return Equaliser(matching_taps(mean_spectrum(own), mean_spectrum(wanted)))
