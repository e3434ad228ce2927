"""Where a base lies and what identifies it. Torch-free, so that planning can ask without loading anything.

``lab/s0`` names a shipped miniature base, ``./dir`` a local checkpoint, ``owner/name[@revision]`` a Hub repository.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adapterstilts.errors import DataError, MissingDependency
from adapterstilts.settings import Precision

SHIPPED = Path(__file__).parent.parent / "lab" / "bases"
ARCHITECTURES = ("xlm-roberta", "roberta", "xlm-roberta-xl")
OWNERS = (("xlm-roberta-x", "facebook/"), ("xlm-roberta", "FacebookAI/"))  # of names that are given without one
TOKENIZER_FILES = ("tokenizer.json", "sentencepiece.bpe.model", "tokenizer_config.json")


@dataclass(frozen=True)
class Reference:
    """A located base: a directory, or a Hub repository at a revision."""

    ref: str
    directory: Path | None
    repository: str | None = None
    revision: str | None = None


def shipped() -> list[str]:
    """The names of the bases that come with the package."""
    return sorted(f"lab/{path.parent.name}" for path in SHIPPED.glob("*/config.json"))


def locate(ref: str) -> Reference:
    """Find a base by shipped name, local directory or Hub id.

    Raises:
        DataError: a path or a ``lab/`` name that does not exist. A mistyped path must not become a network error.
    """
    if ref.startswith("lab/"):
        directory = SHIPPED / ref.removeprefix("lab/")
        if (directory / "config.json").is_file():
            return Reference(ref, directory)
        near = difflib.get_close_matches(ref, shipped(), n=1)
        raise DataError(
            f"no shipped base `{ref}`",
            why=f"the package ships {', '.join(shipped()) or 'none'}",
            fix=f"did you mean `{near[0]}`?" if near else "adapterstilts lab pretrain --seed 0 --out DIR",
        )
    directory = Path(ref).expanduser()
    if directory.is_dir():
        if not (directory / "config.json").is_file():
            raise DataError("not a base", where=str(directory), why="it holds no config.json")
        return Reference(ref, directory.resolve())
    name, _, revision = ref.partition("@")
    if ref.startswith((".", "/", "~")) or name.count("/") > 1:
        raise DataError(f"no base at `{ref}`", why="there is no such directory", fix="check the path of `base:`")
    owner = next((owner for begin, owner in OWNERS if name.startswith(begin)), "")
    return Reference(ref, None, owner + name, revision or "main")


def fingerprint(reference: Reference, sha256: Callable[[Path], str]) -> tuple[str, str]:
    """(weights, tokenizer) identities of a base. ``sha256`` hashes one file and may remember the result.

    A Hub repository is identified by name and revision, so planning needs no network.
    """
    if reference.directory is None:
        identity = f"hub:{reference.repository}@{reference.revision}"
        return identity, identity
    check_config(reference.directory)
    files = [*sorted(reference.directory.glob("*.safetensors")), reference.directory / "config.json"]
    tokenizer = [path for name in TOKENIZER_FILES if (path := reference.directory / name).is_file()]
    if len(files) == 1:
        raise DataError(
            "a base without safetensors weights",
            where=str(reference.directory),
            why="pickled weights are not read",
            fix="save the checkpoint with save_pretrained(..., safe_serialization=True)",
        )
    if not tokenizer:
        why = f"it holds none of {', '.join(TOKENIZER_FILES)}"
        raise DataError("a base without a tokenizer", where=str(reference.directory), why=why)
    return _combined(files, sha256), _combined(tokenizer, sha256)


def longest(ref: str) -> int | None:
    """Tokens of the longest row that a local base has positions for; None where nobody says (the Hub)."""
    directory = locate(ref).directory
    if directory is None:
        return None
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    if "max_position_embeddings" not in config:
        return None
    # Positions are counted from the one after that of padding.
    return int(config["max_position_embeddings"]) - int(config.get("pad_token_id", 1)) - 1


def architecture(ref: str) -> str | None:
    """The model type of a base; None where nobody says (the Hub)."""
    found = locate(ref)
    if found.directory is None:
        return "xlm-roberta-xl" if str(found.repository).startswith("facebook/xlm-roberta-x") else None
    config = json.loads((found.directory / "config.json").read_text(encoding="utf-8"))
    return str(config.get("model_type"))


def require_precision(precision: Precision | None) -> None:
    """Raise MissingDependency when this precision needs a package that is not installed; nothing is imported."""
    if precision == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        fix = "pip install 'adapterstilts[lowbit]', or train in int8"
        raise MissingDependency("nf4 needs the package `bitsandbytes`", why="it is an extra", fix=fix)


def check_config(directory: Path) -> None:
    """Refuse a base that is not XLM-R, XLM-R XL or RoBERTa, or that wants code of its own to run.

    Raises:
        DataError: that, or a configuration that cannot be read.
    """
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind = config.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError("the base's configuration cannot be read", where=str(path), why=str(error)) from error
    if config.get("auto_map"):
        raise DataError(
            "the base wants code of its own to run",
            where=str(path),
            why="its configuration has an `auto_map`; only the library's own classes are used",
            fix="remove `auto_map` when the weights are those of a plain XLM-R",
        )
    if kind not in ARCHITECTURES:
        raise DataError(f"a base of type `{kind}`", where=str(path), why=f"known are {', '.join(ARCHITECTURES)}")


def _combined(files: list[Path], sha256: Callable[[Path], str]) -> str:
    parts = json.dumps([(path.name, sha256(path)) for path in files])
    return hashlib.sha256(parts.encode()).hexdigest()


def parameters(reference: Reference) -> int | None:
    """How many numbers the weights of a local base hold, read off the headers of its files; None for one of the Hub."""
    if reference.directory is None:
        return None
    count = 0
    for path in sorted(reference.directory.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        count += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return count
