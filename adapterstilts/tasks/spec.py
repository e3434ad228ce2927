"""What a task is: one YAML file, validated, frozen, torch-free."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from adapterstilts.errors import RecipeError
from adapterstilts.inside import why_outside
from adapterstilts.settings import Float, Settings, TrainSettings

FormatName = Literal["classification", "multiple_choice", "tagging", "span", "masked_lm", "bitext", "ranking"]
ReaderName = Literal[
    "tsv", "csv", "jsonl", "json", "squad", "copa_xml", "conll", "conllu", "lines", "pairs", "xquad_r", "mewsli"
]
FORMATS: tuple[str, ...] = get_args(FormatName)
READERS: tuple[str, ...] = get_args(ReaderName)
SEARCHED = ("bitext", "ranking")  # formats without a head: their answers are found, by the stage retrieve
GoldForm = Literal["lines", "tags", "pairs", "indices", "squad"]
# What a task says about itself and where its data come from; it does not decide what is computed from given data.
PROSE = frozenset(
    {"title", "benchmarks", "before", "licence", "citation", "url", "notes", "sizes", "sources", "source", "training"}
)


def _keys_as_text(value: Any) -> Any:
    # YAML reads the label 1 as a number, a file holds it as text; a list maps positions.
    if isinstance(value, list):
        return {str(index): label for index, label in enumerate(value)}
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict | str) else value


def _texts(value: Any) -> Any:
    return [str(item) for item in value] if isinstance(value, list | tuple) else value


def _trainable(value: dict[str, Any]) -> dict[str, Any]:
    try:
        TrainSettings.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return value


LabelMap = Annotated[dict[str, str | int], BeforeValidator(_keys_as_text)]
Files = str | list[str] | dict[str, str]
Column = str | int | list[str | int] | dict[Literal["value"], str]


class Gold(Settings):
    """Where the labels of a split lie that its own files leave out."""

    layout: str
    file: str
    form: GoldForm = "lines"


class RowFilter(Settings):
    """Which rows of a file that mixes languages are taken: ``{code}`` stands for the language."""

    column: str
    equals: str | None = None
    prefix: str | None = None


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_in(item)


def _stay_inside(name: str) -> None:
    """A task file may come from somebody else: what it names lies inside the folder that the user gives as data."""
    if why_outside(name):
        raise ValueError(f"`{name}` leaves the folder of the data")


class SourceSpec(Settings):
    """One place a task's data can come from.

    ``files``: split -> pattern with ``{language}`` / ``{code}``; a list is read in order, ``*`` in order of the file
    names; bitext gives {source, target[, gold]}. ``columns``: our field -> column name, dotted path, position, list
    of these, or {value: text}; ``a|b`` takes b where a is missing, ``a|`` an empty text. ``blanked``: splits whose
    files hold no labels, to be completed by ``gold``. ``slice``: the rows [begin, end) of a file that are a split.
    ``together``: splits cut out of other official splits; who trains on this source must not be scored on another.
    """

    name: str
    kind: Literal["files", "hub", "lab", "concat"] = "files"
    layout: str = ""
    reader: ReaderName = "jsonl"
    options: dict[str, Any] = {}
    files: dict[str, Files] = {}
    gold: dict[str, Annotated[list[Gold], BeforeValidator(_listed)]] = {}
    blanked: tuple[str, ...] = ()
    columns: dict[str, Column] = {}
    label_map: LabelMap = {}
    drop: Annotated[tuple[str, ...], BeforeValidator(_texts)] = ()
    codes: dict[str, str] = {}
    languages: tuple[str, ...] | None = None
    filter: RowFilter | None = None
    slice: dict[str, tuple[int, int]] = {}
    together: bool = False
    sort_target: bool = False
    repo: str | None = None
    revision: str = "main"
    config: str | None = None
    splits: dict[str, str] = {}
    task: str | None = None
    seed: int = 0
    tasks: tuple[str, ...] = ()
    stand_in: bool = False
    note: str = ""

    @model_validator(mode="after")
    def _whole(self) -> SourceSpec:
        needed = {"files": self.files and self.layout, "hub": self.repo and self.splits, "lab": self.task}
        if not needed.get(self.kind, self.tasks):
            wants = {"files": "layout and files", "hub": "repo and splits", "lab": "task", "concat": "tasks"}
            raise ValueError(f"a source of kind {self.kind} needs {wants[self.kind]}")
        if self.kind == "hub" and str(self.repo).count("/") != 1:
            raise ValueError("a Hub repository is written namespace/name; bare names no longer load (hub 1.x)")
        for name in (*_texts_in(self.files), *(one.file for golds in self.gold.values() for one in golds)):
            _stay_inside(name)
        for code in self.codes.values():
            _stay_inside(code)
        return self

    def code(self, language: str) -> str:
        return self.codes.get(language, language)

    def has(self, language: str, split: str) -> bool:
        """Whether this source claims to hold the split in the language (not whether the files are there)."""
        held = self.splits if self.kind == "hub" else self.files
        return (self.languages is None or language in self.languages) and (not held or split in held)


class TaskSettings(Settings):
    """How texts become rows. Lengths in subwords, special tokens included."""

    max_length: int = Field(128, ge=8)
    stride: int = Field(128, gt=0, description="subwords from one window of a context to the next")
    max_question: int = Field(64, gt=0)
    max_answer: int = Field(30, gt=0, description="longest predicted answer")
    n_best: int = Field(20, gt=0, description="start and end candidates per window")
    null_threshold: Float | None = Field(None, description="answers may be empty when best - null <= threshold")
    xtreme_compat: bool = Field(False, description="answers by whitespace words, as XTREME's QA script cuts them")
    pool: Literal["cls", "mean", "cls_mean"] = "cls"
    template: str | None = Field(None, description="prompt of a multiple choice from the fields of the row")
    choice_template: str = "{choice}"
    fallback: str | None = Field(None, description="tag of a word without a prediction")


class Selection(Settings):
    """What models are selected on: never a test language."""

    language: str = "en"
    split: str = "dev"


class TaskSpec(Settings):
    """One task. ``languages`` in our codes; ``benchmarks``: which languages a benchmark's average takes."""

    name: str
    title: str = ""
    format: FormatName
    languages: tuple[str, ...]
    benchmarks: dict[str, tuple[str, ...]] = {}
    labels: Annotated[tuple[str, ...], BeforeValidator(_texts)] = ()
    metric: str
    train: str | None = Field(None, description="task a target is trained on by default; null: its own train split")
    before: tuple[str, ...] = Field((), description="tasks that a target is trained on first, one after another")
    head: str | None = Field(None, description="tasks of one head name share a head (SIQA, then COPA, then XCOPA)")
    splits: tuple[str, ...] = ("train", "dev", "test")
    settings: TaskSettings = TaskSettings()
    training: Annotated[dict[str, Any], AfterValidator(_trainable)] = Field(
        {}, description="training settings where a recipe says nothing; of a target, those of training for it"
    )
    sources: tuple[SourceSpec, ...] = ()
    source: str | None = Field(None, description="take this source only")
    sizes: dict[str, int | dict[str, int]] = Field({}, description="published counts; what the lab generates")
    chance: Float | None = None
    selection: Selection = Selection()
    licence: str = ""
    citation: str = ""
    url: str = ""
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> TaskSpec:
        if self.format == "classification" and not self.labels:
            raise ValueError("a classification needs labels")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels repeat")
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError(f"source names repeat: {', '.join(names)}")
        if self.source is not None and self.source not in [*names, "own"]:
            raise ValueError(f"no source `{self.source}`; there are own, {', '.join(names)}")
        return self

    @property
    def train_task(self) -> str:
        return self.train or self.name

    @property
    def head_name(self) -> str:
        """A target is scored with the head of the task it was trained on: xquad with squad's."""
        return self.head or self.train_task

    @property
    def searched(self) -> bool:
        """Whether its answers are found among candidates (stage retrieve) and not predicted by a head."""
        return self.format in SEARCHED

    @property
    def chance_level(self) -> float | None:
        """Percent that guessing gives: stated, or 100 / labels for a classification."""
        if self.chance is not None or self.format != "classification":
            return self.chance
        return 100.0 / len(self.labels)

    def size(self, split: str, language: str) -> int | None:
        """The published number of examples, if known."""
        size = self.sizes.get(split)
        return size.get(language) if isinstance(size, dict) else size

    def core(self) -> dict[str, Any]:
        """What decides arrays, predictions and scores, as plain JSON: no sources, no prose."""
        return self.model_dump(mode="json", exclude=set(PROSE))


def task_hash(spec: TaskSpec) -> str:
    """Identity of a task. The data's own identity (source, files, sizes) is ``Resolved.fingerprint``."""
    core = spec.core()
    core.pop("languages")
    return hashlib.sha256(json.dumps(core, sort_keys=True).encode()).hexdigest()


def split_task(reference: str) -> tuple[str, str | None]:
    """``xnli/sw`` -> ("xnli", "sw"); ``xnli`` -> ("xnli", None)."""
    name, slash, language = reference.partition("/")
    if not name or (slash and not language) or "/" in language:
        raise RecipeError(f"`{reference}` is no task", why="a task is written name or name/language, like xnli/sw")
    return name, language or None


def merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides laid over a mapping: mappings merge, everything else is replaced."""
    result = dict(base)
    for key, value in overrides.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result
