"""The sweep engine: a stack of bidirectional layers over a recording of any length, state carried over every
border.

    sweep 0  left to right   begin layer 0
    sweep 1  right to left   finish layer 0, begin layer 1
    sweep 2  left to right   finish layer 1, begin layer 2
    ...
    sweep n                  finish layer n - 1

Between sweeps the tape holds, for every frame, the input of the layer in work and the half that its first
direction left. An odd n ends walking left; then one more pass reads the tape to the right, computing nothing.

The tile at which the walk turns is begun last and finished next: what both need of it is computed once.

Everything is computed on a fixed grid of tiles of ``TILE`` frames counted from the recording's start, so
every matrix product has the same shape and every scan the same order, wherever the tape lies and wherever the
job was interrupted: the result is the same bit for bit (docs/longform.md says what was checked).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from slyther_cli.longform.tape import Tape, TapeDamaged, in_order

TILE = 2048


class SweepLayer(Protocol):
    """What the engine asks of a layer. Tensors are [1, frames, channels].

    A state is None at the edge where the walk begins, else what the call before returned: a tensor or a
    (nested) tuple of tensors and None, constant in size, never changed in place. A tuple may come back from a
    journal as a plain tuple.
    """

    @property
    def half_width(self) -> int:
        """Channels of what ``begin`` gives."""
        ...

    def project(self, x: Tensor) -> Any:
        """What both directions need of the layer's input x. They do not change it."""
        ...

    def begin(self, projected: Any, state: Any, reverse: bool) -> tuple[Tensor, Any]:
        """The first direction -> what ``finish`` will need of it [1, frames, half_width]."""
        ...

    def finish(
        self, x: Tensor, projected: Any, half: Tensor, state: Any, reverse: bool
    ) -> tuple[Tensor | None, Any]:
        """The other direction: the layer's output for this tile. A layer that must see the next tile first
        gives the one before, and None for the first (see ``local``). ``x`` and ``half`` are lent until it
        gives their tile.
        """
        ...

    def flush(self, state: Any, reverse: bool) -> list[Tensor]:
        """The outputs that still wait when the walk has reached the other edge, in walking order."""
        ...


class Mark(NamedTuple):
    """A place in a job from which it can go on: ``read`` tiles of ``sweep`` are taken in, ``written`` are on
    the tape. ``frames``: of the recording, known when sweep 0 is over. ``states``: of the layers that end and
    begin.
    """

    sweep: int
    read: int
    written: int
    frames: int
    states: tuple[Any, Any]


START = Mark(0, 0, 0, 0, (None, None))


class Keeper(Protocol):
    """Who is told where the job is, and may keep a mark (``journal.Journal``)."""

    def start(self) -> Mark:
        """Where to begin."""
        ...

    def passed(self, mark: Mark, end_of_sweep: bool) -> None:
        """``mark`` is reached. What the tape held there may be overwritten after the return."""
        ...

    def anew(self, why: TapeDamaged) -> None:
        """The tape is damaged: ``start`` is the beginning from now on. Raises ``why`` if it was so before."""
        ...


def sweep(
    layers: Sequence[SweepLayer],
    tiles: Callable[[int], Iterator[Tensor]],
    tape: Tape,
    width: int,
    on_progress: Callable[[float], None] | None = None,
    frames_expected: int = 0,
    keeper: Keeper | None = None,
    tile: int = TILE,
) -> Iterator[Tensor]:
    """Run ``layers`` over a recording; yield the last layer's output in tiles, left to right.

    ``tiles(i)`` gives the recording's tiles [1, tile, width] from number i on, the last one shorter. ``tape``
    has slots of ``tape_floats(layers, width, tile)``. ``frames_expected`` serves the progress of sweep 0
    only; the true count is found there. A ``keeper`` makes the job go on from its mark; the last sweep begins
    anew then. With one, a damaged tape makes all begin anew; what was given already is not given again.
    """
    given = 0
    while True:
        try:
            pieces = _sweeps(layers, tiles, tape, width, on_progress, frames_expected, keeper, tile)
            for piece in islice(pieces, given, None):
                given += 1
                yield piece
            return
        except TapeDamaged as damage:
            if keeper is None:
                raise
            keeper.anew(damage)


def _sweeps(
    layers: Sequence[SweepLayer],
    tiles: Callable[[int], Iterator[Tensor]],
    tape: Tape,
    width: int,
    on_progress: Callable[[float], None] | None,
    frames_expected: int,
    keeper: Keeper | None,
    tile: int,
) -> Iterator[Tensor]:
    n = len(layers)
    walks = n + 1 + n % 2
    mark = keeper.start() if keeper else START
    turned: list[tuple[Tensor, ...]] = []  # x, half and projection of the tile at which the walk turned
    for k in range(mark.sweep, n + 1):
        reverse, last = k % 2 == 1, k == n
        ending, beginning = layers[k - 1] if k else None, None if last else layers[k]
        read, written, frames, (state, next_state) = mark.read, mark.written, mark.frames, mark.states
        if ending is None:
            incoming: Iterator[Any] = tiles(read)
        else:
            columns = width, ending.half_width
            incoming = chain(turned, _walk(tape, k - 1, read + len(turned), frames, tile, columns))
        turned = []
        for piece in chain(incoming, [None]):
            if piece is None:  # the edge is reached
                complete = ending.flush(state, reverse) if ending else []
            elif ending is None:
                complete, frames, read = [piece], frames + piece.shape[1], read + 1
            else:
                turned = []  # another one came
                x, half, *projected = piece
                p = projected[0] if projected else ending.project(x)
                x, state = ending.finish(x, p, half, state, reverse)
                complete, read = [] if x is None else [x], read + 1
            for x in complete:
                index = -(-frames // tile) - 1 - written if reverse else written
                written += 1
                if beginning is not None:
                    p = beginning.project(x)
                    half, next_state = beginning.begin(p, next_state, reverse)
                    tape.store(k, index, x[0], half[0])
                    turned = [(x, half, p)]  # if none comes after it
                elif reverse:
                    tape.store(k, index, x[0])
                else:
                    yield x
            if on_progress:
                on_progress(_share(k, read * tile, frames if k else frames_expected, walks))
            if keeper and piece is not None and (reverse or not last):
                keeper.passed(Mark(k, read, written, frames, (state, next_state)), False)
        mark = Mark(k + 1, 0, 0, frames, (None, None))
        if keeper and (reverse or not last):  # the last sweep to the right leaves the tape as it was
            keeper.passed(mark, True)
    if n % 2 == 1:
        for i, (x,) in enumerate(_walk(tape, n, 0, mark.frames, tile, (width,)), 1):
            yield x
            if on_progress:
                on_progress(_share(n + 1, i * tile, mark.frames, walks))


def tape_floats(layers: Sequence[SweepLayer], width: int, tile: int = TILE) -> int:
    """Floats of a tape's slot: a tile of the layer's input and of the widest half."""
    return tile * (width + max(layer.half_width for layer in layers))


def _walk(
    tape: Tape, made_by: int, done: int, frames: int, tile: int, columns: tuple[int, ...]
) -> Iterator[list[Tensor]]:
    """What sweep ``made_by`` left on the tape, tile by tile back in the other direction, from the ``done``-th
    on.
    """
    count = -(-frames // tile)
    indices = (i if made_by % 2 else count - 1 - i for i in range(done, count))
    places = ((made_by, index, min(tile, frames - index * tile), *columns) for index in indices)
    for parts in in_order(tape, places):
        yield [part[None] for part in parts]


def _share(k: int, walked: int, frames: int, walks: int) -> float:
    """The share of the whole job that is done, in walk ``k``. The first and the last finish or begin one
    layer only, but encode or decode the sound too, and take as long as the others (measured).
    """
    return (k + min(1.0, walked / max(1, frames))) / walks
