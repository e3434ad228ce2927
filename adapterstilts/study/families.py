"""Which languages are relatives: the unit above the language, wherever languages are taken as draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# The languages of all our tasks, grouped as XTREME's table of languages does it: by family, and within Indo-European
# by branch. A language that is not here (an invented one of the lab, or one of your own) is a family by itself.
_TABLE = """
    Afro-Asiatic: ar he
    Austroasiatic: vi
    Austronesian: id jv ms tl
    Baltic: lt
    Basque: eu
    Creole: ht
    Dravidian: ml ta te
    Germanic: af de en nl
    Greek: el
    Indo-Aryan: bn gu hi mr pa ur
    Iranian: fa
    Japonic: ja
    Kartvelian: ka
    Koreanic: ko
    Kra-Dai: th
    Niger-Congo: sw wo yo
    Quechuan: qu
    Romance: es fr it pt ro
    Sino-Tibetan: my zh
    Slavic: bg pl ru uk
    Turkic: az kk tr
    Uralic: et fi hu
"""
_ROWS = (line.split(":") for line in _TABLE.strip().splitlines())
FAMILIES: Mapping[str, str] = {code: name.strip() for name, codes in _ROWS for code in codes.split()}


def relatives(languages: Sequence[str], families: Mapping[str, str] = FAMILIES) -> list[list[int]]:
    """The positions of the languages, family by family."""
    found: dict[str, list[int]] = {}
    for index, language in enumerate(languages):
        found.setdefault(families.get(language, language), []).append(index)
    return list(found.values())
