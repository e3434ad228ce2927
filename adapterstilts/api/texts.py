"""Sentences and known pairs as a user gives them, files or lists; and files that are written whole."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from adapterstilts.api.places import PathLike
from adapterstilts.errors import DataError

Texts = PathLike | Sequence[str]


def read_texts(given: Texts) -> tuple[list[str], str]:
    """(sentences without surrounding space, a name for them).

    Raises:
        DataError: no such file, or nothing in it.
    """
    if isinstance(given, (str, Path)):
        from adapterstilts.data.sentences import read_sentences

        return read_sentences(Path(given)), Path(given).name
    texts = [str(text).strip() for text in given]  # type: ignore[union-attr]
    if not any(texts):
        raise DataError("no sentences", why="the list is empty")
    return texts, f"{len(texts)} sentences"


def read_gold(given: PathLike | Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Known pairs by their texts: a file of source TAB target, a score before them or not (what ``mine`` writes).

    Raises:
        DataError: no such file, no pairs in it, other columns.
    """
    if not isinstance(given, (str, Path)):
        return {(key(source), key(target)) for source, target in given}  # type: ignore[union-attr]
    from adapterstilts.data.lines import lines_of

    path, found = Path(given), set()
    if not path.is_file():
        raise DataError(f"no file `{path}`", why="gold pairs are read from it: source TAB target")
    for number, line in lines_of(path):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) not in (2, 3):
            why = "source TAB target, with a score before them or not"
            raise DataError(f"{len(cells)} columns", where=f"{path}:{number}", why=why)
        found.add((key(cells[-2]), key(cells[-1])))
    if not found:
        raise DataError("no gold pairs", where=str(path), why="the file is empty")
    return found


def key(text: str) -> str:
    """A sentence as it is compared: any run of white space, also a tab, is one space."""
    return " ".join(text.split())


@contextmanager
def whole_file(path: PathLike) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well, and is removed when not.

    Raises:
        DataError: the folder is not there.
    """
    place = Path(path)
    if not place.parent.is_dir():
        raise DataError(f"no folder `{place.parent}`", why=f"{place.name} is written into it")
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)
