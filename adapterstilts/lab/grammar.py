"""From a meaning to the words of one language, each with its part of speech, name tag and role."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .languages import ENGLISH, Language, language
from .lexicon import CITIES, PAST_FORM, affixed, english_plural, transliterate, word
from .meanings import Clause, NounPhrase


@dataclass(frozen=True)
class Token:
    """One word. Roles: S(ubject), O(bject), V(erb), P(redicate), L(ocation), T(ime)."""

    text: str
    upos: str
    ner: str = "O"
    role: str = ""


def realise(code: str, clause: Clause) -> list[Token]:
    """The words of a clause in one language, without the final mark."""
    lang = language(code)
    subject = _noun_phrase(lang, clause.subject, "S")
    if clause.verb == "be":
        verb, rest = _copula(lang, clause)
    else:
        verb = _verb(lang, clause)
        rest = _noun_phrase(lang, clause.object, "O") if clause.object else []
    core = {
        "SVO": subject + verb + rest,
        "SOV": subject + rest + verb,
        "VSO": verb + subject + rest,
    }[lang.order]
    adjuncts = _place(lang, clause) + _time(lang, clause)
    return core + adjuncts if lang.adjunct_last != clause.fronted else adjuncts + core


def plain_text(tokens: Iterable[Token], mark: str = ".") -> str:
    """The sentence as text; every mark stands alone, so words are what lies between blanks."""
    return " ".join([*(t.text for t in tokens), mark])


def _proper_name(lang: Language, name: str, kind: str, role: str, case: str = "") -> list[Token]:
    parts = [transliterate(part, lang) for part in name.split()]
    if case:
        parts[-1] = affixed(lang, parts[-1], case)
    return [Token(part, "PROPN", f"{'I' if i else 'B'}-{kind}", role) for i, part in enumerate(parts)]


def _noun_phrase(lang: Language, phrase: NounPhrase, role: str) -> list[Token]:
    case = "ACCUSATIVE" if role == "O" and lang.morphology >= 3 else ""
    if phrase.kind == "question":
        return [Token(word(lang.code, phrase.head), "PRON", role=role)]
    if phrase.kind != "noun":
        kind = "PER" if phrase.kind == "person" else "ORG"
        return _proper_name(lang, phrase.head, kind, role, case)
    noun = [Token(_noun(lang, phrase, case), "NOUN", role=role)]
    adjective = []
    if phrase.adjective:
        form = word(lang.code, phrase.adjective_word or phrase.adjective)
        adjective = [Token(form, "ADJ", role=role)]
    determiner = []
    if phrase.determiner != "the" or lang.article:
        upos = "NUM" if phrase.determiner.isdigit() else "DET"
        determiner = [Token(word(lang.code, phrase.determiner), upos, role=role)]
    return determiner + (adjective + noun if lang.adjective_first else noun + adjective)


def _noun(lang: Language, phrase: NounPhrase, case: str) -> str:
    lemma = phrase.word or phrase.head
    if lang.code == ENGLISH:
        return english_plural(lemma) if phrase.plural else lemma
    form = word(lang.code, lemma)
    if phrase.plural and lang.morphology >= 1:
        form = affixed(lang, form, "PLURAL")
    return affixed(lang, form, case) if case else form


def _copula(lang: Language, clause: Clause) -> tuple[list[Token], list[Token]]:
    assert clause.predicate is not None
    verb = [Token(word(lang.code, "is"), "AUX")]
    if clause.negated:
        verb.append(Token(word(lang.code, "not"), "PART"))
    return verb, [Token(word(lang.code, clause.predicate), "ADJ", role="P")]


def _verb(lang: Language, clause: Clause) -> list[Token]:
    lemma = clause.verb_word or clause.verb
    form = word(lang.code, lemma)
    if not clause.future:
        form = PAST_FORM[lemma] if lang.code == ENGLISH else affixed(lang, form, "PAST")
    if lang.morphology >= 2:
        if clause.future:
            form = affixed(lang, form, "FUTURE")
        if clause.negated:
            form = affixed(lang, form, "NEGATION")
        return [Token(form, "VERB", role="V")]
    helpers = []
    if clause.future:
        helpers.append(Token(word(lang.code, "will"), "AUX"))
    if clause.negated:
        helpers.append(Token(word(lang.code, "not" if clause.future else "never"), "PART"))
    return [*helpers, Token(form, "VERB", role="V")]


def _place(lang: Language, clause: Clause) -> list[Token]:
    if not clause.place:
        return []
    if clause.place == "where":
        return [Token(word(lang.code, "where"), "PRON", role="L")]
    case = "LOCATIVE" if lang.morphology >= 3 else ""
    if clause.place in CITIES:
        place, article = _proper_name(lang, clause.place, "LOC", "L", case), []
    else:
        form = word(lang.code, clause.place_word or clause.place)
        place = [Token(affixed(lang, form, case) if case else form, "NOUN", role="L")]
        article = [Token(word(lang.code, "the"), "DET")] if lang.article else []
    if case:
        return place
    adposition = [Token(word(lang.code, "in"), "ADP")]
    return adposition + article + place if lang.preposition else article + place + adposition


def _time(lang: Language, clause: Clause) -> list[Token]:
    if not clause.time:
        return []
    upos = "PRON" if clause.time == "when" else "ADV"
    return [Token(word(lang.code, clause.time), upos, role="T")]
