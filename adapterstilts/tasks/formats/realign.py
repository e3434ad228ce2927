"""How XTREME's QA script turns a predicted span into an answer: by whitespace words, not by character offsets.

It keeps the whitespace words that the span touches and looks for the predicted text among them, after cutting off
punctuation and every Chinese character. Where it is not found, the answer is the whole words: in Chinese and Thai
a whole clause. Published XTREME numbers were made this way (XQuAD zh 59.3 F1; about 70 with offsets), ours are not
unless a task says ``settings: {xtreme_compat: true}``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

BLANKS = " \t\r\n\u202f"  # between the words of a context in squad.py; other spaces stay inside words
CHINESE = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


def realigned(context: str, start: int, end: int) -> str:
    """The answer for the characters [start, end) of a context, as squad_metrics.py of transformers gives it.

    The predicted text stands for the detokenised subwords of the official script: NFKC, which is what XLM-R's
    tokenizer does to a text, with single spaces.
    """
    first, last = start, end
    while first > 0 and context[first - 1] not in BLANKS:
        first -= 1
    while last < len(context) and context[last] not in BLANKS:
        last += 1
    words = "".join(" " if char in BLANKS else char for char in context[first:last])
    original = " ".join(word for word in words.split(" ") if word)
    return final_text(" ".join(unicodedata.normalize("NFKC", context[start:end]).split()), original)


def final_text(predicted: str, original: str) -> str:
    """``get_final_text`` of transformers (from BERT's run_squad.py), without lower-casing."""
    tokenised = " ".join(basic_tokens(original))
    begin = tokenised.find(predicted)
    visible = [place for place, char in enumerate(original) if char != " "]
    kept = [place for place, char in enumerate(tokenised) if char != " "]
    end = begin + len(predicted) - 1
    if begin == -1 or len(visible) != len(kept):
        return original
    place = dict(zip(kept, visible, strict=True))
    return original[place[begin] : place[end] + 1] if begin in place and end in place else original


def basic_tokens(text: str) -> list[str]:
    """BERT's BasicTokenizer without lower-casing: punctuation and Chinese characters stand alone."""
    spaced = "".join(f" {char} " if _chinese(char) else char for char in _clean(text))
    return "".join(f" {char} " if _punctuation(char) else char for char in unicodedata.normalize("NFC", spaced)).split()


def _clean(text: str) -> Iterator[str]:
    for char in text:
        category = unicodedata.category(char)
        if char in "\t\n\r" or category == "Zs":
            yield " "
        elif char not in "\0\ufffd" and not category.startswith("C"):
            yield char


def _chinese(char: str) -> bool:
    return any(low <= ord(char) <= high for low, high in CHINESE)


def _punctuation(char: str) -> bool:
    # All of ASCII that is neither letter nor digit, also + < ^ which Unicode counts as symbols.
    return ("!" <= char <= "~" and not char.isalnum()) or unicodedata.category(char).startswith("P")
