"""From a YAML file to a Recipe: extends, --set, vars and matrix, then the schema. All problems come at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from adapterstilts.errors import RecipeError
from adapterstilts.located import Located, Steps, read_file, read_value, walk
from adapterstilts.recipe.expand import expand
from adapterstilts.recipe.presets import preset
from adapterstilts.recipe.problems import nearest, placed, raise_all
from adapterstilts.recipe.schema import (
    Arm,
    Evaluate,
    ModuleEntry,
    Recipe,
    Report,
    Retrieve,
    Target,
    TrainItem,
    layered,
)
from adapterstilts.settings import EngineSettings, MixSettings, TrainSettings

# Where each model of the schema stands; * is any name or index.
_MODELS: Mapping[Steps, type[BaseModel]] = {
    (): Recipe,
    ("train",): TrainSettings,
    ("train", "mix"): MixSettings,
    ("engine",): EngineSettings,
    ("modules", "*"): ModuleEntry,
    ("modules", "*", "train", "*"): TrainItem,
    ("modules", "*", "settings"): TrainSettings,
    ("modules", "*", "settings", "mix"): MixSettings,
    ("arms", "*"): Arm,
    ("arms", "*", "train", "*"): TrainItem,
    ("arms", "*", "settings"): TrainSettings,
    ("arms", "*", "settings", "mix"): MixSettings,
    ("targets", "*"): Target,
    ("targets", "*", "train"): TrainSettings,
    ("targets", "*", "train", "mix"): MixSettings,
    ("retrieve", "*"): Retrieve,
    ("evaluate", "*"): Evaluate,
    ("report",): Report,
}
_CONSUMED = ("extends", "vars", "base")  # read before the schema is


class Validator(Protocol):
    """Finds what a recipe refers to and does not exist (`recipe.validate` with a task registry bound)."""

    def __call__(self, recipe: Recipe) -> list[RecipeError]: ...


def load(path: str | Path, sets: Iterable[str] = (), check: Validator | None = None) -> Recipe:
    """Read a recipe.

    Args:
        sets: overrides ``a.b=c``; the value is YAML. They are laid over the file before ``vars`` are filled in.
        check: when given, its problems are reported together with those of the schema.

    Raises:
        InvalidRecipe: everything that is wrong, each problem with file:line. DataError: no such file.
    """
    located = _extended(Path(path), ())
    problems = [problem for text in sets if (problem := _apply(located, text)) is not None]
    return _build(located, problems, str(path), check)


def from_plain(
    plain: Mapping[str, Any],
    *,
    name: str = "command line",
    places: Mapping[Steps, str] | None = None,
    check: Validator | None = None,
) -> Recipe:
    """A recipe made in memory, as the command line's verbs do; ``places`` says which option each part came from.

    Raises:
        InvalidRecipe: everything that is wrong.
    """
    copy = json.loads(json.dumps(plain, default=list))
    located = Located(copy, {(): name, **(places or {})})
    _one_base(located)
    return _build(located, [], name, check)


# -- layers -----------------------------------------------------------------------------------------------------------


def _extended(path: Path, inside: tuple[Path, ...]) -> Located:
    """The file laid over the files it extends; paths are relative to the file that names them."""
    if path.resolve() in inside:
        ring = " -> ".join(str(p.name) for p in (*inside[inside.index(path.resolve()) :], path))
        raise RecipeError("`extends` goes in a circle", where=str(path), why=ring)
    located = read_file(path, "recipe")
    _one_base(located)
    parents = located.plain.pop("extends", None)
    where = located.where(("extends",))
    names = [parents] if isinstance(parents, str) else parents or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        what = "`extends` is the path of a recipe, or a list of paths"
        raise RecipeError(what, where=where, fix="extends: other.yaml")
    under = Located()
    for name in names:
        parent = path.parent / name
        if not parent.is_file():
            raise RecipeError(f"`extends: {name}`: there is no such file", where=where, why=f"looked for {parent}")
        under = _over(under, _extended(parent, (*inside, path.resolve())))
    return _over(under, located)


def _over(under: Located, upper: Located) -> Located:
    return Located(layered(under.plain, upper.plain), {**under.places, **upper.places})


def _one_base(located: Located) -> None:
    """``base: x`` is ``bases: [x]``, so that a later layer can replace either by either."""
    plain = located.plain
    if "base" not in plain:
        return
    where = located.where(("base",))
    if "bases" in plain:
        raise RecipeError("`base` and `bases` say the same", where=where, fix="keep one")
    base = plain.pop("base")
    plain["bases"] = base if isinstance(base, list) else [base]
    if where is not None:
        located.places[("bases",)] = where


def _apply(located: Located, text: str) -> RecipeError | None:
    """Lay one ``a.b=c`` over the recipe."""
    where = f"--set {text}"
    path, equals, value_text = text.partition("=")
    if not equals or not path.strip("."):
        return RecipeError("cannot read this override", where=where, fix="--set train.epochs=3")
    try:
        value: Any = read_value(value_text, where).plain
    except RecipeError as error:
        return error
    if path == "base":
        path, value = "bases", (value if isinstance(value, list) else [value])
    place: Any = located.plain
    steps: Steps = ()
    rest = path
    while True:
        step, rest = _step(place, rest)
        if isinstance(place, list):
            if not isinstance(step, int) or not 0 <= step < len(place):
                return RecipeError(f"`{'.'.join(map(str, steps))}` has no item {step}", where=where)
        elif not isinstance(place, dict):
            return RecipeError(f"`{'.'.join(map(str, steps))}` is a single value, nothing is below it", where=where)
        steps = (*steps, step)
        if not rest:
            place[step] = value
            located.places.update({(*steps, *inner): where for inner, _ in walk(value)})
            return None
        if isinstance(place, dict) and (place.get(step) is None or (step == "method" and _is_word(place[step]))):
            place[step] = {"name": place[step]} if step == "method" and place.get(step) else {}
            located.places[steps] = where
        place = place[step]


def _is_word(value: Any) -> bool:
    return isinstance(value, str)


def _step(place: Any, path: str) -> tuple[str | int, str]:
    """The next step of a dotted path; a key that itself holds dots is found when it is there."""
    if isinstance(place, dict):
        for key in sorted(place, key=len, reverse=True):
            if path == key or path.startswith(f"{key}."):
                return key, path[len(key) + 1 :]
    first, _, rest = path.partition(".")
    return (int(first) if isinstance(place, list) and first.isdigit() else first), rest


# -- schema -----------------------------------------------------------------------------------------------------------


def _build(located: Located, problems: list[RecipeError], name: str, check: Validator | None) -> Recipe:
    filled, more = expand(located)
    problems = [*problems, *more, *_under_preset(filled)]
    problems += _settings_problems(filled)
    recipe, schema = _validated(filled)
    problems += schema
    if recipe is not None:
        recipe._places = filled.places
        recipe._text = json.dumps(filled.plain, ensure_ascii=False, indent=1)
        if check is not None:
            problems += check(recipe)
    raise_all(problems, name)
    assert recipe is not None
    return recipe


def _under_preset(located: Located) -> list[RecipeError]:
    """Lay the recipe over its preset."""
    name = located.plain.get("preset")
    if name is None:
        return []
    try:
        under = preset(str(name), located.where(("preset",)))
    except RecipeError as error:
        return [error]
    located.plain.update(layered(under, {key: located.plain.get(key) or {} for key in under}))
    return []


def _validated(located: Located) -> tuple[Recipe | None, list[RecipeError]]:
    """The recipe, or what is wrong. Unknown keys alone do not hide what else is wrong."""
    try:
        return Recipe.model_validate(located.plain), []
    except ValidationError as error:
        problems = _problems(error.errors(), (), located)
        unknown = [item["loc"] for item in error.errors() if item["type"] == "extra_forbidden"]
        if len(unknown) < error.error_count():
            return None, problems
    plain = json.loads(json.dumps(located.plain))
    for loc in unknown:
        holder = plain
        for step in loc[:-1]:
            holder = holder[step]
        del holder[loc[-1]]
    try:
        return Recipe.model_validate(plain), problems
    except ValidationError as error:
        return None, problems + _problems(error.errors(), (), located)


def _problems(errors: Sequence[Any], under: Steps, located: Located) -> list[RecipeError]:
    found: dict[Steps, RecipeError] = {}
    for item in errors:
        steps = _real((*under, *item["loc"]), located)
        inner = item.get("ctx", {}).get("error")
        cause = inner.args[0] if isinstance(inner, ValueError) and inner.args else None
        where = located.where(steps)
        if item["type"] == "extra_forbidden":
            problem = unknown_key((*under, *item["loc"]), located)
        elif item["type"] == "missing":
            key = item["loc"][-1]
            problem = RecipeError(f"{_spelled(steps)}`{key}` is missing", where=where, fix=f"write `{key}:`")
        elif isinstance(cause, RecipeError):
            problem = placed(cause, where)
        else:
            named = f"`{'.'.join(map(str, steps))}`" if steps else "the recipe"
            what, _, why = str(inner).partition("; ")  # our own validators say what; why
            what = f"{named} cannot be {_shown(item['input'])}" if inner is None else f"{_spelled(steps)}{what}"
            problem = RecipeError(what, where=where, why=item["msg"] if inner is None else why or None)
        found.setdefault((*steps, item["loc"][-1]) if item["type"] == "missing" else steps, problem)
    return list(found.values())


def _real(steps: Steps, located: Located) -> Steps:
    """The part of a path that exists in the recipe: pydantic adds the names of types, and one item needs no list."""
    real: Steps = ()
    for step in steps:
        if (*real, step) in located.places:
            real = (*real, step)
        elif not isinstance(step, int):
            break
    return real


def _shown(value: Any) -> str:
    """A wrong value as the recipe has it, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _spelled(steps: Steps) -> str:
    return f"{'.'.join(map(str, steps))}: " if steps else ""


def unknown_key(steps: Steps, located: Located) -> RecipeError:
    """The error for a key that the schema does not have, with what was meant."""
    key, around = str(steps[-1]), steps[:-1]
    model = _model(around)
    known = [field.alias or name for name, field in model.model_fields.items()] if model else []
    if not around:
        known += _CONSUMED
    hint = nearest(key, known)
    if key in EngineSettings.model_fields and model is TrainSettings:
        hint = f"write engine: {{{key}: ...}}, beside `train`"
    if hint is None and key in TrainSettings.model_fields and around[:1] in {("modules",), ("arms",), ("targets",)}:
        hint = f"write {'train' if around[0] == 'targets' else 'settings'}: {{{key}: ...}}"
    why = f"{'.'.join(map(str, around)) or 'a recipe'} takes {', '.join(known)}" if known else None
    return RecipeError(f"unknown key `{key}`", where=located.where(steps), why=why, fix=hint)


def _model(steps: Steps) -> type[BaseModel] | None:
    for pattern, model in _MODELS.items():
        if len(pattern) == len(steps) and all(p in ("*", s) for p, s in zip(pattern, steps, strict=True)):
            return model
    return None


def _settings_problems(located: Located) -> list[RecipeError]:
    """Training settings are overrides of each other, so they are checked as they will be used."""

    def part(*steps: str) -> dict[str, Any]:
        value: Any = located.plain
        for step in steps:
            value = value.get(step) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else {}

    found = _settings(located, [("train",)], [part("train")])
    for name in part("modules"):
        steps = ("modules", name, "settings")
        found += _settings(located, [steps, ("train",)], [part("train"), part(*steps)])
    for target in part("targets"):
        first = ("targets", target, "train")
        for arm in part("arms") or [""]:
            second = ("arms", arm, "settings")
            layers = [part("train"), part(*first), part(*second)]
            found += _settings(located, [second, first, ("train",)], layers)
    return found


def _settings(located: Located, places: list[Steps], layers: list[dict[str, Any]]) -> list[RecipeError]:
    try:
        TrainSettings.model_validate(layered(*layers))
    except ValidationError as error:
        found = []
        for item in error.errors():
            at = next((p for p in places if (*p, *item["loc"]) in located.places), places[0])
            found += _problems([item], at, located)
        return found
    return []
