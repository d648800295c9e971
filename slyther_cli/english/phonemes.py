"""From words to the symbols that a speech model reads: letters, or phones.

Three alphabets. "graphemes": letters as they are. "arpabet": the phones and stresses of the CMU Pronouncing
Dictionary, which comes with slyther, and for words that it does not have, spelling rules learnt from it
(``research.training.lexicon``); needs nothing else. "espeak": the IPA of espeak-ng through phonemizer, which
the extra ``speak`` installs (both are GPL-3, so they are optional). A model says in its config which it was
trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from slyther_cli.english.dictionary import lexicon
from slyther_cli.english.heteronyms import choose_readings, with_s
from slyther_cli.english.letter_rules import apply_rules
from slyther_cli.english.normalise import LETTERS, MARKS, normalise
from slyther_cli.errors import ModelError

if TYPE_CHECKING:
    from slyther_cli.english.pronunciations import Pronunciations

PAD, BLANK = "_", " "
VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split()  # noqa: SIM905
CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH".split()  # noqa: SIM905
_ARPABET = [*(v + stress for v in VOWELS for stress in "012"), *CONSONANTS]
_IPA = "aæɑɐbdðeəɚɛɜfɡhiɪjklmnŋoɔɒpɹrɾsʃtθuʊʌvwxzʒʔʲ̩ᵻiːˈˌ"
ALPHABETS = {
    "graphemes": (PAD, BLANK, *MARKS, *LETTERS),
    "arpabet": (PAD, BLANK, *MARKS, *_ARPABET),
    "espeak": (PAD, BLANK, *MARKS, *dict.fromkeys(_IPA)),
}
"""Alphabet -> its symbols; a symbol's place is its number. BLANK stands between words."""


@dataclass(frozen=True)
class Spelling:
    """What a text is to a model. ``symbols`` are numbers in the alphabet; ``words`` the normalised words with
    their marks. ``by_rule``: words that the dictionary does not have. ``dropped``: characters that have no
    sound. ``readings``: words that are read in several ways, each with the phones that were chosen. ``said``:
    the words without marks, each of which is one run of symbols between blanks and marks; empty for "espeak",
    which joins words."""

    symbols: tuple[int, ...]
    words: str
    by_rule: tuple[str, ...] = ()
    dropped: str = ""
    readings: tuple[tuple[str, str], ...] = ()
    said: tuple[str, ...] = ()

    @property
    def spoken(self) -> int:
        """How many symbols have a sound: neither blanks nor marks."""
        return sum(s > len(MARKS) + 1 for s in self.symbols)


def spell(text: str, alphabet: str, lexicon: Pronunciations | None = None) -> Spelling:
    """English as the symbols of an alphabet: a blank, the words with a mark or a blank between them, a mark.
    Nothing at all when there are no words. ``lexicon``: the user's own pronunciations.

    Raises :class:`ModelError`: an unknown alphabet, or "espeak" without the extra.
    """
    if alphabet not in ALPHABETS:
        raise ModelError(f"unknown alphabet {shorten(alphabet)!r}; known: {', '.join(ALPHABETS)}")
    words, dropped = normalise(text)
    pieces = [*lexicon.applied(words.split())] if lexicon else [(word, ()) for word in words.split()]
    words = " ".join(word for word, _ in pieces)
    numbers = {symbol: i for i, symbol in enumerate(ALPHABETS[alphabet])}
    out: list[int] = []
    runs: list[str] = []
    by_rule: dict[str, None] = {}
    if alphabet == "espeak":
        ipa = _espeak(words) if words else ""
        said = [numbers[c] for c in ipa if c in numbers]
        return Spelling((numbers[BLANK], *said) if said else (), words, dropped=dropped)
    single = [(word, given) for piece, given in pieces for word in ([piece] if given else piece.split())]
    chosen = choose_readings([word for word, _ in single], text) if alphabet == "arpabet" else {}
    readings: dict[tuple[str, str], None] = {}
    for place, (word, given) in enumerate(single):
        plain, mark = (word[:-1], word[-1]) if word[-1] in MARKS else (word, "")
        if place in chosen and not given:
            readings.setdefault((plain, " ".join(chosen[place])))
        phones = given or chosen.get(place) or _symbols(plain, alphabet, by_rule)
        if phones:
            runs.append(plain)
            out += [numbers[p] for p in phones]
            out.append(numbers[mark or BLANK])
    while out and out[-1] == numbers[BLANK]:
        out.pop()
    if out and out[-1] > len(MARKS) + 1:
        out.append(numbers["."])
    symbols = (numbers[BLANK], *out) if out else ()
    return Spelling(symbols, words, tuple(by_rule), dropped, tuple(readings), tuple(runs))


def _symbols(word: str, alphabet: str, by_rule: dict[str, None]) -> tuple[str, ...]:
    if alphabet != "arpabet":
        return tuple(word)
    phones, known = pronounce(word)
    if not known:
        by_rule.setdefault(word)
    return phones


def shorten(text: str, limit: int = 40) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def pronounce(word: str) -> tuple[tuple[str, ...], bool]:
    """The phones of a word in small letters, and whether the dictionary has it."""
    words, _ = lexicon()
    if word in words:
        return tuple(words[word].split()), True
    if word.endswith("'s") and word[:-2] in words:
        return with_s(tuple(words[word[:-2]].split())), True
    letters = word.replace("'", "")
    named = (phone for letter in letters for phone in words["ay" if letter == "a" else letter].split())
    return _by_rule(letters) or tuple(named), False


def _by_rule(word: str) -> tuple[str, ...]:
    _, rules = lexicon()
    phones: list[str] = []
    for phone in apply_rules(rules, word):
        if not phones or phone != phones[-1] or phone[-1].isdigit():
            phones.append(phone)
    vowels = [i for i, phone in enumerate(phones) if phone[-1].isdigit()]
    stressed = [i for i in vowels if phones[i][-1] == "1"]
    for i in stressed[1:]:
        phones[i] = phones[i][:-1] + "2"
    if vowels and not stressed:
        first = next((i for i in vowels if phones[i][:2] != "AH"), vowels[0])
        phones[first] = phones[first][:-1] + "1"
    return tuple(phones)


def espeak_missing() -> str:
    """Why the alphabet "espeak" cannot be used here; "" if it can."""
    try:
        import espeakng_loader  # noqa: F401
        import phonemizer  # noqa: F401
    except ImportError as error:
        return f"{error.name or error} is not installed; pip install 'slyther-cli[speak]'"
    return ""


@lru_cache(maxsize=1)
def _espeak_backend() -> Any:
    why = espeak_missing()
    if why:
        raise ModelError(f"this model reads espeak-ng's phonemes: {why}")
    import logging

    import espeakng_loader
    from phonemizer.backend import EspeakBackend
    from phonemizer.backend.espeak.wrapper import EspeakWrapper

    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    quiet = logging.getLogger("slyther.phonemizer")
    quiet.setLevel(logging.CRITICAL)
    return EspeakBackend("en-us", preserve_punctuation=True, with_stress=True, logger=quiet)


def _espeak(words: str) -> str:
    return str(_espeak_backend().phonemize([words], strip=True)[0])
