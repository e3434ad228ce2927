"""lab: the embedded world."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterstilts.cli.group import Group, Session, verb
from adapterstilts.cli.output import Output, duration, table
from adapterstilts.errors import RecipeError

if TYPE_CHECKING:
    from rich.console import Console


@click.group("lab", cls=Group)
def lab() -> None:
    """The embedded world: invented languages at known distances from English, tasks, and bases of three sizes."""


@verb("languages", examples=["adapterstilts lab languages", "adapterstilts lab languages --format json"])
@click.pass_obj
def languages(session: Session) -> None:
    """The languages, their distance from English by construction, and one sentence in each."""
    from adapterstilts.lab import LANGUAGES, distance, generate

    found: list[dict[str, Any]] = []
    for code, language in LANGUAGES.items():
        example = generate("lab-mlm", code, "test", 1)[0]
        found.append(
            {
                "name": code,
                "distance": distance(code),
                "cognates": language.cognates,
                "order": language.order,
                "morphology": language.morphology,
                "script": language.script,
                "example": example["text_a"],
            }
        )
    columns = ("name", "distance", "cognates", "order", "morphology", "script", "example")
    rows = [[entry[column] for column in columns] for entry in found]
    Output(session).emit(found, lambda console: table(console, columns, rows, right="distance cognates morphology"))


@verb(
    "sample",
    examples=["adapterstilts lab sample lab-nli qab", "adapterstilts lab sample lab-qa en -n 1 --format jsonl"],
)
@click.argument("task")
@click.argument("language", default="en")
@click.option("--split", type=click.Choice(["train", "dev", "test"]), default="train", show_default=True)
@click.option("-n", "count", type=click.IntRange(1), default=3, show_default=True)
@click.pass_obj
def sample(session: Session, task: str, language: str, split: str, count: int) -> None:
    """Examples of a TASK in a LANGUAGE."""
    from adapterstilts.lab import TASKS, bitext, generate

    try:
        if task in TASKS and TASKS[task].format == "bitext":
            found: list[dict[str, Any]] = _pairs(bitext(task, language, split, count), count)
        else:
            found = generate(task, language, split, count)
    except ValueError as error:
        raise RecipeError(str(error), fix="adapterstilts lab languages, adapterstilts ls tasks") from None

    def show(console: Console) -> None:
        for example in found:
            for key, value in example.items():
                console.print(f"{key}: {value}", soft_wrap=True)
            console.print()

    Output(session).emit(found, show, [str(example["id"]) for example in found])


def _pairs(data: dict[str, Any], count: int) -> list[dict[str, Any]]:
    sides = {side: dict(data[side]) for side in ("source", "target")}
    pairs = [{"id": f"{s} {t}", "source": sides["source"][s], "target": sides["target"][t]} for s, t in data["gold"]]
    return pairs[:count]


@verb(
    "pretrain",
    examples=[
        "adapterstilts lab pretrain --seed 2 --out bases/s2",
        "adapterstilts lab pretrain --size small --out bases/small",
        "adapterstilts lab pretrain --steps 200 --out try",
    ],
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the new base.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--size",
    type=click.Choice(["small", "medium", "large"]),
    default="large",
    show_default=True,
    help="2 layers of 48, 3 of 64, or 4 of 96.",
)
@click.option(
    "--steps", type=click.IntRange(1), help="Updates.  [default: 10000, as the shipped bases; about half an hour]"
)
@click.pass_obj
def pretrain(session: Session, out: Path, seed: int, size: str, steps: int | None) -> None:
    """Pretrain a base on the world's raw text. One seed gives the same weights again on the same machine."""
    if (out / "model.safetensors").exists():
        raise RecipeError(f"{out} already holds a base", fix="give another --out")
    from adapterstilts.stages.pretrain import SIZES, PretrainConfig
    from adapterstilts.stages.pretrain import pretrain as train

    output = Output(session)
    wanted: dict[str, Any] = {**SIZES[size], "seed": seed}
    config = PretrainConfig(**wanted) if steps is None else PretrainConfig(**wanted, steps=steps)
    began = last = time.monotonic()

    def tell(step: int, total: int, loss: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 5 or step == total:
            last = now
            sys.stderr.write(f"step {step}/{total}, loss {loss:.3f}, {duration(now - began)}\n")

    result = train(config, out, None if session.format == "quiet" else tell)

    def show(console: Console) -> None:
        losses = result["quality"]["mlm_loss"]
        console.print(
            f"base {out}: {result['parameters']:,} parameters, {result['vocabulary']} subwords", soft_wrap=True
        )
        table(console, ("language", "masked-word loss"), list(losses.items()), right="masked-word")

    output.emit({"schema_version": 1, "name": str(out), **result}, show)


for _command in (languages, sample, pretrain):
    lab.add_command(_command)
