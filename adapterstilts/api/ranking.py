"""Which intermediate task is good for a target, predicted without training on the target."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from adapterstilts.api.planning import Planned

if TYPE_CHECKING:
    from adapterstilts.api.module import LoadedModule

EXAMPLES = 200  # of each task's English training data


def rankings(planned: Planned) -> dict[str, dict[str, dict[str, float]]]:
    """How -> target -> intermediate -> score; higher is predicted to be better. Nothing is trained.

    ``text embedding``: cosine of the tasks' mean sentence vectors by the bare base, over English training examples
    without their labels (TextEmb of Vu et al. 2020). ``size``: the number of training examples of the intermediate
    task. Both are among the cheap ways that Poth et al. (2021) compare; with several bases, of the first.

    Raises:
        StoreError: the data are not prepared, so nothing of the plan has run.
    """
    from adapterstilts.api.module import load
    from adapterstilts.study.transfer import similarity

    recipe, tasks = planned.recipe, planned.tasks
    base = recipe.bases[0]
    sources = {name: entry.train[0].task.partition("/")[0] for name, entry in recipe.modules.items() if entry.train}
    targets = {target.task: tasks.get(target.task).train_task for target in recipe.targets.values()}
    encoder = load("base", base=base, store=planned.store)
    vectors = {task: _vector(planned, encoder, task) for task in dict.fromkeys([*sources.values(), *targets.values()])}
    sizes = {name: float(recipe.modules[name].limit or _size(planned, task)) for name, task in sources.items()}
    found: dict[str, dict[str, dict[str, float]]] = {"text embedding": {}, "size": {}}
    for target, trained in targets.items():
        known = {name: vectors[task] for name, task in sources.items()}
        found["text embedding"][target] = similarity({**known, "": vectors[trained]}, "")
        found["size"][target] = sizes
    return found


def _vector(planned: Planned, encoder: LoadedModule, task: str) -> list[float]:
    """The mean sentence vector of a task: (width,), centred by nothing, at the encoder's last layer."""
    texts = [" ".join(_texts(example)) for example in islice(_examples(planned, task), EXAMPLES)]
    mean: list[float] = encoder.encode(texts).mean(axis=0).tolist()
    return mean


def _size(planned: Planned, task: str) -> int:
    return sum(1 for _ in _examples(planned, task))


def _examples(planned: Planned, task: str) -> Iterator[dict[str, Any]]:
    """The prepared English training examples of a task."""
    from adapterstilts.data.prepared import read_prepared

    for stage in planned.plan.stages:
        if stage.kind == "prepare" and (stage.spec.task, stage.spec.split) == (task, "train"):  # type: ignore[attr-defined]
            yield from read_prepared(planned.store.path(stage.hash)).examples()
            return


def _texts(value: Any, key: str = "") -> Iterator[str]:
    """Every text of an example but its id, labels, tags and answers."""
    if key in ("id", "label", "tags", "answers"):
        return
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
