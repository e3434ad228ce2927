"""What the user writes: the recipe and its entries. Frozen, and an unknown key is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, PrivateAttr, model_validator

from adapterstilts.errors import RecipeError
from adapterstilts.modules.composition import BASE, check_name
from adapterstilts.modules.expressions import from_plain
from adapterstilts.settings import EngineSettings, Float, MethodSettings, Precision, Settings

ALL: Literal["all"] = "all"


def _tree(value: Any) -> Any:
    return _told(lambda: from_plain(value))


def _module_name(value: str) -> str:
    _told(lambda: check_name(value))
    return value


def _told(action: Any) -> Any:
    # pydantic collects ValueErrors only; the RecipeError inside keeps its reason and fix (see load.py).
    try:
        return action()
    except RecipeError as error:
        raise ValueError(error) from error


def _list(value: Any) -> Any:
    return [value] if isinstance(value, (str, dict)) else value


def _items(value: Any) -> Any:
    if value is None:
        return ()
    items = _list(value)
    return [{"task": item} if isinstance(item, str) else item for item in items] if isinstance(items, list) else items


Composition = Annotated[Any, BeforeValidator(_tree)]
ModuleName = Annotated[str, AfterValidator(_module_name)]
Words = Annotated[tuple[str, ...], BeforeValidator(_list)]
Languages = Literal["all"] | tuple[str, ...]
Layers = Literal["all"] | tuple[int, ...]


def _languages(value: Any) -> Any:
    if value is None or value == ALL:
        return value
    words = _list(value)
    if not isinstance(words, (list, tuple)) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError("these are no languages; write `all` or a list of codes such as [en, de]")
    return tuple(dict.fromkeys(words))


def _layers(value: Any) -> Any:
    if value == ALL:
        return value
    numbers = [value] if isinstance(value, int) else value
    if not isinstance(numbers, (list, tuple)) or not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("these are no layers; write `all` or a list of numbers such as [0, 7, 12]")
    return tuple(numbers)


# One validator instead of a union, so that a wrong value gives one error.
Chosen = Annotated[Languages | None, PlainValidator(_languages)]
ChosenLayers = Annotated[Layers, PlainValidator(_layers)]


class TrainItem(Settings):
    """A task to train on: ``task``, ``task/language``, or with languages and a limit of examples for each."""

    task: str
    language: str | None = None
    languages: Words = ()
    limit: int | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one_way(self) -> TrainItem:
        if self.language and self.languages:
            raise ValueError("`language` and `languages` say the same; keep one")
        return self


Items = Annotated[tuple[TrainItem, ...], BeforeValidator(_items)]


class ModuleEntry(Settings):
    """An intermediate module: trained, merged, or one that the store already has."""

    description: str = ""
    train: Items = ()
    merge: tuple[str, ...] = ()
    use: str | None = None
    limit: int | None = Field(None, gt=0, description="training examples of each item that sets none")
    method: MethodSettings | None = None
    continue_: str | None = Field(None, alias="continue", description="train on from a copy of this module")
    on: Composition = BASE
    settings: dict[str, Any] = Field({}, description="overrides of `train`, the training settings")
    how: str | None = Field(None, description="of merge; default cat for deltas, average for bottlenecks")
    weights: tuple[Float, ...] | None = None
    parameters: dict[str, Any] = Field({}, description="of merge, such as rank and density")

    @model_validator(mode="after")
    def _one_origin(self) -> ModuleEntry:
        ways = [name for name, given in (("train", self.train), ("merge", self.merge), ("use", self.use)) if given]
        if len(ways) != 1:
            raise ValueError(f"a module needs one of train, merge, use; this one has {' and '.join(ways) or 'none'}")
        training = [name for name in ("limit", "method", "settings") if getattr(self, name)]
        training += [name for name, on in (("continue", self.continue_), ("on", self.on != BASE)) if on]
        merging = [name for name in ("how", "weights", "parameters") if getattr(self, name)]
        wrong = (training if ways != ["train"] else []) + (merging if ways != ["merge"] else [])
        if wrong:
            raise ValueError(f"`{wrong[0]}` has no meaning beside `{ways[0]}`; remove one of the two")
        if self.continue_ and self.on != BASE:
            raise ValueError("`continue` and `on` together; a continued module keeps what it stands on")
        return self


class Target(Settings):
    """What is measured: a task, trained on English and scored in other languages."""

    description: str = ""
    task: str
    before: Words | None = Field(None, description="tasks trained on first, one after another; the task's own if unset")
    limit: int | None = Field(None, gt=0, description="English training examples of each task")
    train: dict[str, Any] = Field({}, description="overrides of the training settings")
    languages: Chosen = None
    split: str = "test"
    test_limit: int | None = Field(None, gt=0, description="examples scored in each language")


class Arm(Settings):
    """One way to reach each target. ``{}`` is the baseline: a fresh module on the bare base."""

    description: str = ""
    method: MethodSettings | None = None
    continue_: str | None = Field(None, alias="continue")
    on: Composition = BASE
    train: Items = Field((), description="tasks mixed into the target's training")
    settings: dict[str, Any] = Field({})
    targets: Words | None = None
    baseline: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Arm:
        if self.continue_ and self.on != BASE:
            raise ValueError("`continue` and `on` together; a continued module keeps what it stands on")
        return self


class Retrieve(Settings):
    """Bitext search before and after intermediate modules; ``base`` is the bare base."""

    tasks: Words
    modules: Words = ("base",)
    languages: Chosen = None
    layers: ChosenLayers = "all"
    pooling: Literal["mean", "cls"] = "mean"
    neighbours: int = Field(4, gt=0)
    margin: Literal["ratio", "distance", "absolute"] = "ratio"
    limit: int | None = Field(None, gt=0)
    precision: Precision | None = Field(None, description="of the base; default that of the module")


class Evaluate(Settings):
    """Scores of modules as they are, on tasks that they have a head for."""

    tasks: Words
    modules: Words
    languages: Chosen = None
    split: str = "test"
    limit: int | None = Field(None, gt=0)
    precision: Precision | None = Field(None, description="of the base; default that of the module")


class Report(Settings):
    """How the results are shown."""

    title: str | None = None
    distance: str | dict[str, Any] | None = None
    baseline: str | None = None


def _entries(value: Any) -> Any:
    return {key: {} if item is None else item for key, item in value.items()} if isinstance(value, dict) else value


class Recipe(Settings):
    """A whole experiment."""

    name: str = Field(pattern=r"^[A-Za-z0-9_+-][A-Za-z0-9_.+-]*$")
    description: str = ""
    bases: Words
    data: str | dict[str, Any] | None = None
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    languages: Chosen = ALL
    method: MethodSettings = MethodSettings(name="lora")
    train: dict[str, Any] = Field({})
    engine: EngineSettings = EngineSettings()
    preset: str | None = Field(None, description="settings for a kind of machine, under those of the recipe")
    max_memory: str | None = Field(None, description="4GB: pick micro-batch and recomputing so that stages fit")
    lower_precision: bool = Field(False, description="max_memory may lower the precision of the base, too")
    tasks: dict[str, dict[str, Any]] = Field({})
    modules: dict[ModuleName, ModuleEntry] = Field({})
    targets: dict[str, Target] = Field({})
    arms: Annotated[dict[str, Arm], BeforeValidator(_entries)] = Field({})
    retrieve: Annotated[tuple[Retrieve, ...], BeforeValidator(_list)] = ()
    evaluate: Annotated[tuple[Evaluate, ...], BeforeValidator(_list)] = ()
    slots: dict[Literal["language"], dict[str, str]] = Field({}, description="what fills {language}: code -> module")
    report: Report = Report()
    study: dict[str, Any] = Field({}, description="which study the arms belong to, and their roles in it")

    _places: Mapping[tuple[str | int, ...], str] = PrivateAttr(default_factory=dict)
    _text: str = PrivateAttr("")

    @model_validator(mode="after")
    def _no_repeats(self) -> Recipe:
        for name in ("bases", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                told = "is empty; at least one is needed" if not values else "names one twice; each counts once"
                raise ValueError(f"`{name}` {told}")
        return self

    @property
    def text(self) -> str:
        """The recipe as resolved YAML-compatible text, for provenance."""
        return self._text

    def where(self, *steps: str | int) -> str | None:
        """file:line of a part of the recipe, or of the nearest part around it."""
        for length in range(len(steps), -1, -1):
            if steps[:length] in self._places:
                return self._places[steps[:length]]
        return None

    @property
    def filling(self) -> Mapping[str, str]:
        """Language code -> the module that stands in the slot {language}."""
        return self.slots.get("language", {})


def layered(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings laid over each other, deeply; later ones win."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            both = isinstance(old, dict) and isinstance(value, Mapping)
            result[key] = layered(old, value) if both and old is not None else value
    return result
