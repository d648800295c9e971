"""Lines of words drawn at random, for the comparison by length (docs/studies.md).

    python examples/study/make_words.py LINES SEED > words.txt

A network of four million parameters learns them in minutes on one core, so that what is left to tell networks
apart is the length.
"""

import random
import sys

WORDS = (
    "zero one two three four five six seven eight nine alpha bravo charlie delta echo foxtrot golf hotel "
    "india juliet kilo lima mike november oscar papa quebec romeo sierra tango uniform victor whiskey yankee "
    "zulu january february march april june july august september october december yes no go help erase "
    "repeat start stop enter left right up down open close north south east west red green blue white "
    "black"
)


def main(lines: int, seed: int) -> None:
    draw, words = random.Random(seed), WORDS.split()
    for _ in range(lines):
        print(" ".join(draw.choices(words, k=draw.randint(4, 16))))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
