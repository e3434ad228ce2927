"""An encoder that is only loaded when sentences are not embedded yet, and the folder where embeddings are kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adapterstilts.amounts import count_bytes
from adapterstilts.api import environment
from adapterstilts.api.places import DEFAULT_BASE, PathLike, module_base, open_store
from adapterstilts.data.hashes import FileHashes
from adapterstilts.encoder.reference import fingerprint, locate
from adapterstilts.errors import RecipeError
from adapterstilts.settings import Precision
from adapterstilts.store import Store
from adapterstilts.store.files import write_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from adapterstilts.api.module import LoadedModule
    from adapterstilts.modules.attach import Adapted
    from adapterstilts.modules.branches import Branch
    from adapterstilts.retrieval.stored import Kind, Pooling, Stored

Layer = int | Literal["tuned"]
Say = Callable[[str, float], None]
HEADLINE = 14  # of 24: jiant's layer, and that of XTREME's Tatoeba script
PUBLISHED = (
    10,
    HEADLINE,
    20,
)  # layers of 24 behind published XLM-R Large figures: report of XTREME's, jiant, XTREME's BUCC


@dataclass(frozen=True)
class Encoder:
    """A base, with a module or bare: what it is called is known without loading it."""

    base: str
    module: str | None
    store: Store
    precision: Precision | None = None  # of the base; None: that of the module's training

    @classmethod
    def of(
        cls,
        base: str | None,
        module: str | None,
        store: PathLike | Store | None,
        precision: Precision | None = None,
    ) -> Encoder:
        """From what a verb was given; without a base it is that of the module, or xlm-roberta-large.

        Raises:
            StoreError: no such module. RecipeError: a module directory without its base.
        """
        environment.prepare()
        opened = open_store(store)
        module = None if module == "base" else module
        if module is not None and base is None:
            if (Path(module) / "module.json").is_file():
                raise RecipeError("a module directory does not say where its base lies", fix="--base")
            base = module_base(opened, [module])
        return cls(base or DEFAULT_BASE, module, opened, precision)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The base, its tokenizer and the module by their content."""
        hashes = FileHashes(self.store.fingerprints if self.store.root.is_dir() else None)
        weights, tokenizer = fingerprint(locate(self.base), hashes)
        hashes.save()
        own = {} if self.precision is None else {"precision": self.precision}
        return {"base": weights, "tokenizer": tokenizer, "module": self._module_digest(), **own}

    def _module_digest(self) -> str | None:
        if self.module is None:
            return None
        directory = Path(self.module)
        if not (directory / "module.json").is_file():
            directory = self.store.path(self.store.resolve(self.module))
        return module_digest(directory)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The base's config.json."""
        directory = locate(self.base).directory
        if directory is None:
            from adapterstilts.encoder.base import fetch

            directory = fetch(self.base)
        found: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        return found

    @property
    def layers(self) -> int:
        """Layers of the base; layer 0 is the embedding output."""
        return int(self.config["num_hidden_layers"])

    def published(self) -> tuple[int, ...]:
        """The published layers, scaled to the depth of this base."""
        return tuple(dict.fromkeys(round(layer * self.layers / 24) for layer in PUBLISHED))

    def layer(self, asked: int | None) -> int:
        """The layer to read; None: that of jiant's figures, 14 of 24.

        Raises:
            RecipeError: no such layer.
        """
        chosen = round(self.layers * HEADLINE / 24) if asked is None else asked
        if not 0 <= chosen <= self.layers:
            raise RecipeError(f"no layer {chosen}", why=f"the encoder has 0 (embeddings) to {self.layers}")
        return chosen

    def load(self) -> LoadedModule:
        """The encoder in memory."""
        from adapterstilts.api.module import load

        return load(self.module or "base", base=self.base, store=self.store, precision=self.precision)

    @property
    def tuned_file(self) -> Path:
        """Where tune-layer records its choice for this encoder."""
        return self.store.root / "tuned" / f"{_digest(self.identity)}.json"

    def embedded(
        self,
        texts: Sequence[str],
        layers: Sequence[int],
        *,
        poolings: Sequence[Pooling] = ("mean",),
        kind: Kind = "fp16",
        max_length: int = 512,
        limit: int | None = None,
        name: str = "",
        say: Say | None = None,
        also: Sequence[Encoder] = (),
    ) -> Stored:
        """The embeddings of these sentences, from the store where they are already there.

        Args:
            limit: bytes that the process may take.
            say: told the name and the fraction done.
            also: encoders on the same base whose embeddings are made in the same pass and kept in the store; layers
                that compute the same run once.

        Raises:
            BudgetError: the encoder does not fit into ``limit``. RecipeError: ``also`` on another base.
        """
        from adapterstilts.data.sentences import digest
        from adapterstilts.retrieval.stored import open_stored

        longest = min(max_length, int(self.config["max_position_embeddings"]) - 2)
        sentences = {"sentences": digest(texts), "count": len(texts), "max_length": longest}
        wanted: dict[Path, tuple[Encoder, dict[str, Any]]] = {}
        for encoder in (self, *also):
            if encoder.identity["base"] != self.identity["base"]:
                raise RecipeError(f"`{encoder.module}` and `{self.module}` stand on different bases")
            identity = encoder.identity | sentences
            wanted[self.store.root / "embeddings" / f"{_digest(identity)}-{kind}"] = encoder, identity
        missing = [
            (encoder, place, identity)
            for place, (encoder, identity) in wanted.items()
            if not open_stored(place, identity).has(layers, poolings)
        ]
        if missing:
            self._embed(texts, missing, layers, poolings, kind, longest, limit, name, say)
        own, (_, identity) = next(iter(wanted.items()))
        return open_stored(own, identity)

    def _embed(
        self,
        texts: Sequence[str],
        missing: Sequence[tuple[Encoder, Path, dict[str, Any]]],
        layers: Sequence[int],
        poolings: Sequence[Pooling],
        kind: Kind,
        longest: int,
        limit: int | None,
        name: str,
        say: Say | None,
    ) -> None:
        from adapterstilts.data.sentences import tokenised
        from adapterstilts.data.tokenise import Tokenizer
        from adapterstilts.retrieval.budget import refuse_model, tokens_for
        from adapterstilts.retrieval.stored import Place, embed_branches
        from adapterstilts.stages.prepare import base_directory

        if limit is not None:
            refuse_model(limit, locate(self.base).directory)
        arrays = tokenised(texts, Tokenizer.from_directory(base_directory(self.base)), longest)
        adapted, branches = _together([encoder for encoder, *_ in missing], [arrays.ids])
        width, inner = int(self.config["hidden_size"]), int(self.config["intermediate_size"])
        tokens = 4096 if limit is None else tokens_for(limit, width, inner, least=int(arrays.lengths().max()))
        embed_branches(
            adapted,
            arrays,
            [Place(place, own, branch) for (_, place, own), branch in zip(missing, branches, strict=True)],
            layers,
            poolings=poolings,
            kind=kind,
            tokens=tokens,
            progress=None if say is None else lambda fraction: say(name, fraction),
        )


def _together(encoders: Sequence[Encoder], used: Sequence[NDArray[Any]]) -> tuple[Adapted, list[Branch]]:
    """One base with the modules of all these encoders, and what is active for each.

    Raises:
        RecipeError: they were trained on bases in different precisions, and none was asked for.
    """
    from adapterstilts.api.module import read_stored
    from adapterstilts.encoder.base import load_base
    from adapterstilts.modules.artifact import check_each, load_adapted
    from adapterstilts.modules.attach import Adapted
    from adapterstilts.modules.branches import Branch

    read = [read_stored(one.module, one.base, one.store)[1] if one.module else None for one in encoders]
    precisions = {
        one.precision or ("fp32" if module is None else module.precision)
        for one, module in zip(encoders, read, strict=True)
    }
    if len(precisions) > 1:
        fix = f"--base-precision {min(precisions)}"
        raise RecipeError("modules of different precisions in one pass", why=", ".join(sorted(precisions)), fix=fix)
    base = load_base(encoders[0].base, precisions.pop(), used=used)
    modules = [module for module in read if module is not None]
    adapted = load_adapted(base, modules[0], modules[1:]) if modules else Adapted(base, {}, None)
    check_each(adapted, modules[1:])  # loading compared the first
    return adapted, [Branch(None) if module is None else Branch(module.bound(), module.fusion()) for module in read]


@dataclass(frozen=True)
class Encoding:
    """How sentences become vectors: what `mine`, `nearest` and `embed` share.

    ``layer``: default 14 of 24, scaled to the base's depth; ``tuned`` is what tune-layer recorded; nothing above it is
    computed. ``pooling``: default mean, or as tuned. ``kind``: type of the stored embeddings. ``max_memory``: of the
    process, such as ``4GB``; None: no limit. ``base_precision``: default that in which the module was
    trained. ``say`` is told a name and the fraction done. ``also``: other modules that embed the same sentences in the
    same pass, for later searches.
    """

    base: str | None = None
    module: str | None = None
    layer: Layer | None = None
    pooling: Pooling | None = None
    kind: Kind = "fp16"
    max_length: int = 512
    max_memory: str | int | None = "4GB"
    base_precision: Precision | None = None
    store: PathLike | Store | None = None
    say: Say | None = None
    also: tuple[str, ...] = ()

    @cached_property
    def encoder(self) -> Encoder:
        return Encoder.of(self.base, self.module, self.store, self.base_precision)

    @cached_property
    def read(self) -> tuple[int, Pooling]:
        """(layer, pooling) that vectors are read from."""
        if self.layer == "tuned":
            number, pooling = read_tuned(self.encoder)
            return number, self.pooling or pooling
        return self.encoder.layer(self.layer), self.pooling or "mean"

    @cached_property
    def limit(self) -> int | None:
        """Bytes."""
        return None if self.max_memory is None else count_bytes(self.max_memory)

    @property
    def facts(self) -> dict[str, Any]:
        """What a result says of its encoder."""
        layer, pooling = self.read
        return {"base": self.encoder.base, "module": self.encoder.module, "layer": layer, "pooling": pooling}

    def vectors(self, texts: Sequence[str], name: str) -> NDArray[np.floating[Any]]:
        """[sentences, d] memory-mapped."""
        layer, pooling = self.read
        stored = self.encoder.embedded(
            texts,
            [layer],
            poolings=[pooling],
            kind=self.kind,
            max_length=self.max_length,
            limit=self.limit,
            name=name,
            say=self.say,
            also=[Encoder.of(self.encoder.base, module, self.store, self.base_precision) for module in self.also],
        )
        return stored.layer(layer, pooling)

    def load(self) -> LoadedModule:
        """The encoder in memory."""
        return self.encoder.load()


def record_layer(encoder: Encoder, record: dict[str, Any]) -> Path:
    """Keep the outcome of a layer search beside the embeddings."""
    path = encoder.tuned_file
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False))
    return path


def module_digest(directory: Path) -> str:
    """Names a module by its content: its tree and its outputs on fixed inputs, equal exactly when the module is."""
    parts = [(directory / name).read_bytes() for name in ("module.json", "golden.safetensors")]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _digest(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:24]


def read_tuned(encoder: Encoder) -> tuple[int, Pooling]:
    """(layer, pooling) that tune-layer recorded for this encoder.

    Raises:
        RecipeError: nothing was recorded.
    """
    if not encoder.tuned_file.is_file():
        raise RecipeError("no layer was tuned for this encoder", fix="adapterstilts retrieve tune-layer bucc2018")
    record = json.loads(encoder.tuned_file.read_text(encoding="utf-8"))
    return int(record["layer"]), record["pooling"]
