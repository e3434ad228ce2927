"""What each kind of stage is told: torch-free specs. A stage is a pure function of its spec and its parents' artifacts.

Fields named in ``skip`` cannot change the result (token budgets, checkpoint counts), so they stay out of the hash.
``version`` is raised when the code of a stage changes what it computes; old artifacts then no longer hit.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from adapterstilts.settings import EngineSettings, MethodSettings, Precision, Settings, TrainSettings

ENGLISH = "en"  # the other side of every bitext


class BaseRef(Settings):
    """A frozen base: ``ref`` is what the user wrote, ``fingerprint`` what identifies its weights and tokenizer."""

    ref: str
    fingerprint: str
    tokenizer: str

    def identity(self) -> dict[str, str]:
        return {"fingerprint": self.fingerprint, "tokenizer": self.tokenizer}


class Spec(Settings):
    kind: ClassVar[str]
    version: ClassVar[int] = 1
    skip: ClassVar[frozenset[str]] = frozenset()

    def identity(self) -> dict[str, Any]:
        """The part of the spec that decides the result, as plain JSON."""
        return self.model_dump(mode="json", exclude=set(self.skip) or None)


class PrepareSpec(Spec):
    """One task, language and split -> tokenised arrays and the examples they came from."""

    kind: ClassVar[str] = "prepare"
    base: BaseRef
    task: str
    language: str
    split: str
    task_hash: str  # of the resolved task YAML, sizes and settings included
    source: dict[str, Any]  # the chosen source with its resolved paths (see data/sources.py)
    data: str  # fingerprint of the source files
    overrides: dict[str, Any] = {}

    def identity(self) -> dict[str, Any]:
        # The tokenizer alone decides, not the weights; and the bytes of the data, not where they lie.
        return {
            "tokenizer": self.base.tokenizer,
            "task": self.task_hash,
            "language": self.language,
            "split": self.split,
            "data": self.data,
        }


class TaskShare(Settings):
    """One task of a training mix: its prepared parents are the roles ``train:<key>`` and ``dev:<key>``."""

    key: str  # "task/language"; the examples of all shares of one task use the head of that task
    task: str
    limit: int | None = None


class TrainSpec(Spec):
    """Training of one module. Parents: prepared data, ``start`` (continue) and the modules named in ``below``."""

    kind: ClassVar[str] = "train"
    version: ClassVar[int] = 2  # both families are composed at their places; AdapterFusion has its regulariser
    skip: ClassVar[frozenset[str]] = frozenset({"overrides", "engine"})
    base: BaseRef
    method: MethodSettings | None  # None: taken from the module that training continues
    below: str | None = None  # composition over parent hashes, frozen below the new module
    start: str | None = None  # hash of the module that training continues from
    filling: str | None = None  # hash of the module in the slot {language} while this trains
    mix: tuple[TaskShare, ...]
    settings: TrainSettings
    seed: int
    overrides: dict[str, Any] = {}
    engine: EngineSettings = EngineSettings()

    def identity(self) -> dict[str, Any]:
        plain = super().identity()
        plain["base"] = self.base.identity()
        plain["settings"].pop("checkpoints")
        if self.filling is None:
            plain.pop("filling")
        return plain


class MergeSpec(Spec):
    """Several modules of one base -> one module, with the error against the exact sum.

    A search (``how``) has no weights yet: it finds them on its parent ``dev``, the prepared data of its task.
    """

    kind: ClassVar[str] = "merge"
    skip: ClassVar[frozenset[str]] = frozenset({"overrides", "engine"})
    base: BaseRef
    how: str = "cat"
    of: tuple[str, ...]  # hashes
    weights: tuple[float, ...]
    parameters: dict[str, Any] = {}
    seed: int = 0
    overrides: dict[str, Any] = {}
    engine: EngineSettings = EngineSettings()

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"base": self.base.identity()}


class ImportSpec(Spec):
    """A module that came from outside: no stage makes it, its weights are its identity.

    Of a composition, ``tree`` is over the hashes of its leaves' weights, ``leaf`` that of its mixtures, and ``facts``
    say what it can do; it has no one method.
    """

    kind: ClassVar[str] = "import"
    base: BaseRef
    method: MethodSettings | None
    library: Literal["peft", "adapterhub"]
    leaf: str
    tree: str | None = None
    facts: dict[str, Any] | None = None

    def identity(self) -> dict[str, Any]:
        plain = super().identity() | {"base": self.base.identity()}
        return {key: value for key, value in plain.items() if key not in ("tree", "facts") or value is not None}


class PullSpec(Spec):
    """A module that somebody shared: its files are its identity, and what they say of it is believed."""

    kind: ClassVar[str] = "pulled"
    skip: ClassVar[frozenset[str]] = frozenset({"facts"})
    base: BaseRef
    content: str  # sha256 of the names and hashes of its files
    facts: dict[str, Any]  # families, tasks, methods, ..., as planning needs them

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"base": self.base.identity()}


MODULES = (TrainSpec.kind, MergeSpec.kind, ImportSpec.kind, PullSpec.kind)  # the kinds of artifacts that are modules


class EvaluateSpec(Spec):
    """A module on one task in several languages -> predictions and scores.

    Parents: ``data:<language>``, and ``bind:<language>`` for what stands in the slot {language} there.
    """

    kind: ClassVar[str] = "evaluate"
    skip: ClassVar[frozenset[str]] = frozenset({"overrides", "engine"})
    base: BaseRef
    module: str | None  # hash of the trained module; None = the bare base (masked_lm only)
    task: str
    split: str
    languages: tuple[str, ...]
    limit: int | None = None
    bindings: dict[str, str] = {}  # language -> hash of the module in the slot {language}; others keep the default
    precision: Precision | None = None  # None: that which the module was trained in
    overrides: dict[str, Any] = {}
    engine: EngineSettings = EngineSettings()

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"base": self.base.identity()}


class RetrieveSpec(Spec):
    """A module (or the bare base) on a searched task in several languages.

    Parents: ``data:<language>:<split>``, and of a ranking task ``pool:<language>``, the candidates.
    """

    kind: ClassVar[str] = "retrieve"
    skip: ClassVar[frozenset[str]] = frozenset({"overrides", "engine"})
    base: BaseRef
    module: str | None
    task: str
    languages: tuple[str, ...]
    layers: tuple[int, ...] | Literal["all"] = "all"
    pooling: Literal["mean", "cls"] = "mean"
    neighbours: int = 4
    margin: Literal["ratio", "distance", "absolute"] = "ratio"
    limit: int | None = None
    bindings: dict[str, str] = {}  # language -> hash of the module in the slot {language}; others keep the default
    precision: Precision | None = None
    overrides: dict[str, Any] = {}
    engine: EngineSettings = EngineSettings()

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"base": self.base.identity()}
