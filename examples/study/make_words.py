"""Lines of words drawn at random, for the comparison by length (docs/studies.md): a task that a network of four
million parameters learns in minutes on one core, so that what is left to tell them apart is the length.

    python examples/study/make_words.py LINES SEED > words.txt
"""

import random
import sys

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet", "kilo", "lima", "mike", "november", "oscar", "papa", "quebec", "romeo", "sierra", "tango", "uniform", "victor", "whiskey", "yankee", "zulu", "january", "february", "march", "april", "june", "july", "august", "september", "october", "december", "yes", "no", "go", "help", "erase", "repeat", "start", "stop", "enter", "left", "right", "up", "down", "open", "close", "north", "south", "east", "west", "red", "green", "blue", "white", "black"]


def main(lines: int, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(lines):
        print(" ".join(draw.choices(WORDS, k=draw.randint(4, 16))))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
