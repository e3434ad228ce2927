"""The languages of the embedded world: English and six invented ones at known distances from it.

The codes qaa..qaf are reserved for private use by ISO 639, so a score can never be mistaken
for a statement about a real language.
"""

from __future__ import annotations

from dataclasses import dataclass

ENGLISH = "en"

# What the constructed distance is made of; the shares add up to one.
LEXICON_SHARE = 0.45
ORDER_SHARE = 0.30
MORPHOLOGY_SHARE = 0.15
SCRIPT_SHARE = 0.10
MAX_MORPHOLOGY = 3


@dataclass(frozen=True)
class Language:
    """How one language says things; the defaults are those of English."""

    code: str
    cognates: float  # share of content words that are spelt as in English
    order: str = "SVO"  # subject, verb, object
    adjective_first: bool = True
    preposition: bool = True  # False: postposition (or a case suffix at morphology 3)
    adjunct_last: bool = True  # place and time after the core of the clause
    morphology: int = 0  # 0 tense; 1 plural; 2 future and negation too; 3 case too
    prefixing: bool = False
    script: str = "latin"  # or "georgian"
    article: bool = True
    consonants: tuple[str, ...] = ()  # what invented words are built from
    vowels: tuple[str, ...] = ()


def _language(code: str, consonants: str, vowels: str, **traits: object) -> Language:
    return Language(
        code,
        consonants=tuple(consonants.split()),
        vowels=tuple(vowels.split()),
        **traits,  # type: ignore[arg-type]
    )


# In the order of their distance from English.
LANGUAGES: dict[str, Language] = {
    language.code: language
    for language in (
        Language(ENGLISH, cognates=1.0),
        _language("qaa", "b d f g l m n r s t v", "a e i o", cognates=0.60),
        _language(
            "qab",
            "p t c l r m n s z",
            "a o u ia",
            cognates=0.40,
            adjective_first=False,
            morphology=1,
        ),
        _language(
            "qac",
            "k g h t d w y n sh",
            "a i u",
            cognates=0.30,
            order="SOV",
            preposition=False,
            morphology=1,
        ),
        _language(
            "qad",
            "b m n ng p s tl k",
            "a e o ui",
            cognates=0.15,
            order="VSO",
            adjective_first=False,
            morphology=2,
            prefixing=True,
            article=False,
        ),
        _language(
            "qae",
            "ch k l m r y t z sh",
            "ö ü a i",
            cognates=0.0,
            order="SOV",
            preposition=False,
            adjunct_last=False,
            morphology=3,
            article=False,
        ),
        _language(
            "qaf",
            "g zh v d r l kh n",
            "e o u",
            cognates=0.0,
            order="SOV",
            adjective_first=False,
            preposition=False,
            adjunct_last=False,
            morphology=3,
            script="georgian",
            article=False,
        ),
    )
}


def language(code: str) -> Language:
    """The language of a code, or an error that lists the codes there are."""
    if code not in LANGUAGES:
        raise ValueError(f"unknown lab language {code!r}; there are {', '.join(LANGUAGES)}")
    return LANGUAGES[code]


def distance(code: str) -> float:
    """Constructed distance from English, 0 to 1.

    .45 x share of words that are no cognates + .30 x share of the four order traits that differ
    + .15 x morphology / 3 + .10 if the script differs.
    """
    it = language(code)
    differing = (it.order != "SVO") + (not it.adjective_first) + (not it.preposition) + (not it.adjunct_last)
    return round(
        LEXICON_SHARE * (1 - it.cognates)
        + ORDER_SHARE * differing / 4
        + MORPHOLOGY_SHARE * it.morphology / MAX_MORPHOLOGY
        + SCRIPT_SHARE * (it.script != "latin"),
        3,
    )
