"""A stored module in memory: sentences in, embeddings out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adapterstilts.api import environment
from adapterstilts.api.places import PathLike, module_base, open_store
from adapterstilts.errors import RecipeError
from adapterstilts.settings import Precision

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from adapterstilts.modules.artifact import Module
    from adapterstilts.modules.attach import Adapted
    from adapterstilts.store import Store


@dataclass(frozen=True)
class LoadedModule:
    """A module on its base. ``adapted`` is the encoder with the module's composition active."""

    name: str
    directory: Path | None
    tree: str
    heads: tuple[str, ...]
    adapted: Adapted
    tokenizer: Any

    @property
    def layers(self) -> int:
        """Layers of the encoder; layer 0 is the embedding output."""
        return self.adapted.base.layers

    def encode(
        self,
        sentences: Sequence[str],
        *,
        layer: int | None = None,
        pooling: Literal["mean", "cls"] = "mean",
        max_length: int = 512,
        tokens: int = 4096,
    ) -> NDArray[np.float32]:
        """(sentences, d) embeddings, not normalised, in the order given.

        Args:
            layer: default the last one; nothing above it is computed.
            max_length: subwords of a sentence, ``<s>`` and ``</s>`` included; longer ones are cut.
            tokens: subwords in one pass: memory, never the result.

        Raises:
            RecipeError: a layer that the encoder does not have.
        """
        import numpy as np

        from adapterstilts.data.sentences import tokenised
        from adapterstilts.retrieval.embed import embed

        chosen = self.layers if layer is None else layer
        if not 0 <= chosen <= self.layers:
            raise RecipeError(f"no layer {layer}", why=f"the encoder has 0 (embeddings) to {self.layers}")
        if isinstance(sentences, str):
            raise RecipeError("`sentences` is one text", fix="encode([text])")
        if not len(sentences):
            return np.empty((0, self.adapted.base.width), dtype=np.float32)
        longest = min(max_length, int(self.adapted.model.config.max_position_embeddings) - 2)
        arrays = tokenised(sentences, self.tokenizer, longest)
        found: NDArray[np.float32] = embed(self.adapted, arrays, [chosen], pooling=pooling, tokens=tokens)[0]
        return found


def load(
    module: str,
    *,
    base: str | None = None,
    store: PathLike | Store | None = None,
    precision: Precision | None = None,
    used: Sequence[NDArray[Any]] | None = None,
) -> LoadedModule:
    """A module by name or hash (or its directory), on its base; ``load("base", base=...)`` is the bare base.

    Args:
        precision: of the base; default that in which the module was trained, fp32 for the bare base.
        used: all subwords that will be looked up; only their embeddings are held.

    Raises:
        StoreError: no such module, one of another base, or outputs that differ from those it was stored with.
        DataError: the base is not there.
    """
    environment.prepare()
    from adapterstilts.data.tokenise import Tokenizer
    from adapterstilts.encoder.base import load_base
    from adapterstilts.modules.artifact import load_adapted
    from adapterstilts.modules.attach import Adapted
    from adapterstilts.modules.expressions import format_tree

    opened = open_store(store)
    if module == "base":
        if base is None:
            raise RecipeError("which base?", fix='load("base", base="lab/s0")')
        bare = load_base(base, precision or "fp32", used=used)
        return LoadedModule("base", None, "base", (), Adapted(bare, {}, None), Tokenizer.from_directory(bare.directory))
    ref, read = read_stored(module, base, opened)
    loaded = load_base(ref, precision or read.precision, used=used)
    adapted = load_adapted(loaded, read)
    tokenizer = Tokenizer.from_directory(loaded.directory)
    return LoadedModule(module, read.directory, format_tree(read.tree), tuple(read.heads), adapted, tokenizer)


def read_stored(module: str, base: str | None, store: Store) -> tuple[str, Module]:
    """(base, what its directory says) of a module by name, hash or directory.

    Raises:
        StoreError: no such module, or one of another base. RecipeError: a directory without its base.
    """
    from adapterstilts.modules.artifact import read_module

    directory = Path(module)
    if (directory / "module.json").is_file():
        if base is None:
            raise RecipeError("a module directory does not say where its base lies", fix="load(directory, base=...)")
        ref = base
    else:
        ref = base or str(module_base(store, [module]))
        directory = store.path(store.resolve(module))
    return ref, read_module(directory, base=_fingerprint(ref, store))


def _fingerprint(ref: str, store: Store) -> str:
    from adapterstilts.data.hashes import FileHashes
    from adapterstilts.encoder.reference import fingerprint, locate

    hashes = FileHashes(store.fingerprints if store.root.is_dir() else None)
    found = fingerprint(locate(ref), hashes)[0]
    hashes.save()
    return found
