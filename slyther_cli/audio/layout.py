"""Which rates and channels can be read, and how a change of them is told."""

from slyther_cli.audio.discover import shown
from slyther_cli.errors import InputError, UsageError

LOWEST_RATE, HIGHEST_RATE = 4_000, 768_000  # Hz, both included


def check_layout(name: str, rate: int, channels: int, channel: int | None) -> None:
    """Raises InputError when the sound's rate is out of bounds, or when it has no such channel (from 0)."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise InputError(
            f"{name} has a sampling rate of {rate} Hz; {LOWEST_RATE} Hz to {HIGHEST_RATE} Hz can be read"
        )
    if channel is not None and channel >= channels:
        count = "1 channel" if channels == 1 else f"{channels} channels"
        raise InputError(f"{name} has {count}: there is no channel {channel + 1}")


def channel_number(channel: int | str) -> int | None:
    """0-based, or None for the mix. Raises UsageError."""
    if channel == "mix":
        return None
    try:
        number = int(channel)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise UsageError(f"channel {shown(str(channel))} is neither 'mix' nor a number from 1 up")
    return number - 1


def conversion_notes(channels: int, channel: int | None, source_rate: int, rate: int) -> list[str]:
    """What is done to the sound on its way to mono at ``rate``."""
    notes = []
    if channels > 1:
        if channel is None:
            notes.append(f"{channels} channels mixed down to one")
        else:
            notes.append(f"channel {channel + 1} of {channels} is used")
    if rate != source_rate:
        notes.append(f"resampled {source_rate} Hz -> {rate} Hz")
    return notes
