"""The concepts of the world, the relations between them, and their words in each language.

A concept is named by its first English word. Concepts may have several words (synonyms); verbs
come in antonym pairs, and most of them leave their object in a state (the effect).
"""

from __future__ import annotations

import random
import zlib
from functools import cache

from .languages import ENGLISH, Language, language

# "a/b" are synonyms; the key is the hypernym.
_NOUNS = {
    "animal": "dog/hound cat horse/steed cow bird goat duck rabbit/bunny pig/hog",
    "food": "apple potato/spud egg tomato sandwich cake/pie carrot pear melon",
    "drink": "water milk tea juice coffee wine beer lemonade",
    "vehicle": "car/automobile bike/bicycle boat/ship truck/lorry bus van tractor plane/jet",
    "tool": "hammer saw shovel/spade axe drill rope/cord ladder brush",
    "garment": "shirt coat/jacket hat/cap shoe sock scarf dress/gown glove",
    "text": "book letter newspaper/paper poem/verse map note/memo story/tale",
    "furniture": "table chair/seat sofa/couch bed shelf lamp desk",
}
_ROLES = (
    "teacher/tutor doctor/physician farmer/grower child/kid lawyer/attorney soldier/trooper singer baker sailor painter"
)
_PLACES = "kitchen garden/yard school market/bazaar park office station/depot street/road house/home forest/wood"
_ADJECTIVES = (
    "big/large:small/little new:old/ancient heavy:light expensive/costly:cheap pretty/beautiful:ugly strong:weak"
)
# verb/synonym = past/past | object categories | effect;  the two of a line are antonyms
_VERB_PAIRS = """
wash/clean=washed/cleaned|spotless  soil/stain=soiled/stained|dirty  garment,vehicle,furniture
break/smash=broke/smashed|damaged  repair/fix=repaired/fixed|intact  tool,furniture,vehicle
heat/warm=heated/warmed|hot  cool/chill=cooled/chilled|cold  food,drink
feed/nourish=fed/nourished|full  starve/neglect=starved/neglected|hungry  animal
hide/conceal=hid/concealed|hidden  show/display=showed/displayed|visible  text,tool,garment
lose/misplace=lost/misplaced|missing  find/discover=found/discovered|present  text,tool,garment
cure/heal=cured/healed|healthy  poison/infect=poisoned/infected|sick  person,animal
praise/commend=praised/commended|proud  blame/accuse=blamed/accused|ashamed  person
buy/purchase=bought/purchased|-  sell/vend=sold/vended|-  text,vehicle,garment,food
love/adore=loved/adored|-  hate/despise=hated/despised|-  person,animal,food
"""


def _list(text: str, separator: str | None = None) -> tuple[str, ...]:
    return tuple(text.split(separator))


GIVEN_NAMES = _list(
    "Anna Ben Carla David Emma Felix Greta Hugo Ines Jonas Kira Leo Mona Nils Olga Paul Rita Sam "
    "Tara Umar Vera Wilma Yusuf Zara"
)
SURNAMES = _list("Berg Costa Diaz Novak Okoro Silva Tanaka Weber")
ORGANISATIONS = _list("Zenco,Novatek,Bluway Group,Fintra,Maxor,Orbix Group,Telmar,Kordex", ",")
CITIES = _list("London,Paris,Cairo,Lima,Tokyo,Oslo Bay,Delhi,Quito Bay,Accra,Hanoi", ",")
PAST_TIMES = _list("yesterday today monday tuesday friday sunday")
FUTURE_TIMES = _list("tomorrow today monday tuesday friday sunday")
QUANTIFIERS = _list("all some no 2 3 4 5 6 7")
FUNCTION_WORDS = _list("the all some no not in never will is and because so what who where when")
AFFIXES = _list("PAST FUTURE NEGATION PLURAL ACCUSATIVE LOCATIVE")
_IRREGULAR_PLURALS = {"shelf": "shelves", "scarf": "scarves"}

SYNONYMS: dict[str, tuple[str, ...]] = {}
ANTONYM: dict[str, str] = {}
HYPERNYM: dict[str, str] = {}
MEMBERS: dict[str, tuple[str, ...]] = {}
PAST_FORM: dict[str, str] = {}  # English, by word
EFFECT: dict[str, str] = {}  # verb -> state of its object
OBJECT_CATEGORIES: dict[str, tuple[str, ...]] = {}


def _concept(words: str) -> str:
    parts = tuple(words.split("/"))
    SYNONYMS[parts[0]] = parts
    return parts[0]


def _oppose(one: str, other: str) -> None:
    ANTONYM[one], ANTONYM[other] = other, one


def _read_verb(text: str, categories: tuple[str, ...]) -> str:
    forms, effect = text.split("|")
    words, pasts = forms.split("=")
    verb = _concept(words)
    PAST_FORM.update(zip(words.split("/"), pasts.split("/"), strict=True))
    OBJECT_CATEGORIES[verb] = categories
    if effect != "-":
        EFFECT[verb] = _concept(effect)
    return verb


def _read_tables() -> None:
    for hypernym, members in _NOUNS.items():
        _concept(hypernym)
        MEMBERS[hypernym] = tuple(_concept(m) for m in members.split())
        HYPERNYM.update(dict.fromkeys(MEMBERS[hypernym], hypernym))
    for line in _VERB_PAIRS.split("\n"):
        if line:
            first, second, categories = line.split()
            allowed = tuple(categories.split(","))
            one, other = _read_verb(first, allowed), _read_verb(second, allowed)
            _oppose(one, other)
            if one in EFFECT:
                _oppose(EFFECT[one], EFFECT[other])


_read_tables()
ROLES = tuple(_concept(r) for r in _ROLES.split())
PLACES = tuple(_concept(p) for p in _PLACES.split())
for _pair in _ADJECTIVES.split():
    _oppose(*(_concept(a) for a in _pair.split(":")))
ADJECTIVES = tuple(a.split("/")[0] for pair in _ADJECTIVES.split() for a in pair.split(":"))
VERBS = tuple(OBJECT_CATEGORIES)
EFFECT_VERBS = tuple(EFFECT)
STATES = tuple(EFFECT.values())
MASS_NOUNS = frozenset(MEMBERS["drink"]) | {"drink"}
CONTENT_WORDS = tuple(sorted({w for words in SYNONYMS.values() for w in words} | {*PAST_TIMES, *FUTURE_TIMES}))

_GEORGIAN = {c: chr(0x10D0 + i) for i, c in enumerate("abcdefghijklmnopqrstuvwxyzöü")}


def transliterate(word: str, lang: Language) -> str:
    """A word or name in the script of a language."""
    if lang.script == "latin":
        return word
    return "".join(_GEORGIAN.get(c, c) for c in word.lower())


@cache
def words_of(code: str) -> dict[str, str]:
    """English word, function word or affix name -> its form; empty for English itself."""
    lang = language(code)
    if code == ENGLISH:
        return {}
    rng = random.Random(zlib.crc32(code.encode()))
    # One order for all languages: the cognates of a far language are cognates in a near one too.
    order = random.Random(7).sample(CONTENT_WORDS, len(CONTENT_WORDS))
    cognates = set(order[: round(lang.cognates * len(order))])
    forms: dict[str, str] = {}
    taken = set(CONTENT_WORDS) | set(FUNCTION_WORDS) | set(PAST_FORM.values())
    for word in CONTENT_WORDS + FUNCTION_WORDS + AFFIXES:
        if word in cognates:
            forms[word] = transliterate(word, lang)
            continue
        short = word in FUNCTION_WORDS or word in AFFIXES
        invented = _invent(rng, lang, 1 if short else rng.choice((2, 2, 3)), taken)
        taken.add(invented)
        forms[word] = transliterate(invented, lang)
    return forms


def _invent(rng: random.Random, lang: Language, syllables: int, taken: set[str]) -> str:
    while True:
        word = "".join(rng.choice(lang.consonants) + rng.choice(lang.vowels) for _ in range(syllables))
        if rng.random() < 0.5:
            word += rng.choice(lang.consonants)
        if word not in taken:
            return word


def word(code: str, name: str) -> str:
    """The form of one word in one language (digits and punctuation stay as they are)."""
    return words_of(code).get(name, name)


def affixed(lang: Language, stem: str, affix: str) -> str:
    """A stem with one affix, on the side where the language puts it."""
    form = words_of(lang.code)[affix]
    return form + stem if lang.prefixing else stem + form


def english_plural(noun: str) -> str:
    """The plural of an English noun of this world."""
    if noun in _IRREGULAR_PLURALS:
        return _IRREGULAR_PLURALS[noun]
    if noun.endswith(("s", "sh", "ch", "x")) or noun in ("potato", "tomato"):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"
