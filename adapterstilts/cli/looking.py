"""ls, show, explain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from adapterstilts.cli.group import Session, verb
from adapterstilts.cli.output import Output, size, table, words

if TYPE_CHECKING:
    from rich.console import Console

# What people see of each kind; programs get everything.
COLUMNS = {
    "tasks": ("name", "format", "metric", "languages", "train"),
    "suites": ("name", "title", "tasks"),
    "methods": ("name", "family", "learning_rate", "summary", "source"),
    "bases": ("name", "where", "description"),
    "modules": ("name", "kind", "base", "method", "tasks", "dev", "made"),
    "recipes": ("name", "path", "description"),
    "runs": ("name", "when", "stages", "done", "open"),
    "artifacts": ("name", "kind", "label", "size", "made"),
    "languages": ("name", "distance", "tasks"),
    "compositions": ("name", "expression", "delta", "bottleneck"),
}
RIGHT = "learning_rate stages done open size distance"
MANY = 8  # longer lists are shortened for people


@verb(
    "ls",
    examples=[
        "adapterstilts ls tasks",
        "adapterstilts ls modules --format json",
        "adapterstilts ls methods --format quiet",
    ],
)
@click.argument("kind", metavar="KIND")
@click.pass_obj
def ls(session: Session, kind: str) -> None:
    """List everything of one KIND.

    KIND is tasks, suites, methods, bases, modules, recipes, runs, artifacts, languages or compositions. JSON is a
    list of objects, each with a `name`.
    """
    from adapterstilts.api.catalogue import catalogue

    output = Output(session)
    found = catalogue(kind, store=session.store, task_files=session.task_files)
    columns = COLUMNS[kind]

    def show(console: Console) -> None:
        table(console, columns, [[_cell(entry, column) for column in columns] for entry in found], right=RIGHT)

    if not found:
        output.say(f"no {kind} yet")
    output.emit(found, show)


def _cell(entry: dict[str, Any], column: str) -> Any:
    if column == "size":
        return size(entry["bytes"])
    value = entry.get(column)
    if isinstance(value, list) and len(value) > MANY:
        return f"{words(value[:MANY])} and {len(value) - MANY} more"
    return value


@verb(
    "show",
    examples=[
        "adapterstilts show xquad",
        "adapterstilts show lora --base xlm-roberta-large",
        "adapterstilts show mnli+xquad --format json",
    ],
)
@click.argument("name")
@click.option("--base", help="Of the size of a method.  [default: the published XLM-R models]")
@click.pass_obj
def show(session: Session, name: str, base: str | None) -> None:
    """One task, suite, method, composition, base, recipe, module or artifact (by name or hash), resolved."""
    from adapterstilts.api.catalogue import show as find

    found = find(name, base=base, store=session.store, task_files=session.task_files)
    Output(session).emit({"schema_version": 1, **found}, lambda console: _show(console, found))


def _show(console: Console, found: dict[str, Any]) -> None:
    import yaml

    console.print(f"{found['kind']} {found['name']}", style="bold", soft_wrap=True)
    plain = {
        key: value for key, value in found.items() if key not in ("kind", "name") and value not in (None, [], {}, "")
    }
    if "manifest" in plain:
        manifest = plain.pop("manifest")
        plain |= {
            key: manifest[key] for key in ("label", "hash", "created", "wall_seconds", "device") if key in manifest
        }
        plain |= {"facts": manifest.get("facts", {}), "spec": manifest["spec"], "parents": manifest.get("parents", {})}
        plain["files"] = {name: size(entry["bytes"]) for name, entry in manifest["files"].items()}
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
    console.print(text.rstrip(), soft_wrap=True)


@verb(
    "explain",
    examples=[
        "adapterstilts explain mnli+xquad",
        "adapterstilts explain 'stack(lora, fuse(seq_bn, double_seq_bn))' --base xlm-roberta-large",
        "adapterstilts explain lora --base lab/s0 --format json",
    ],
)
@click.argument("expression", metavar="EXPRESSION|MODULE")
@click.option("--base", help="Counts parameters for this base.  [default: that of the stored modules]")
@click.pass_obj
def explain(session: Session, expression: str, base: str | None) -> None:
    """What a composition of stored modules (or of methods, for fresh ones) computes, trains and costs."""
    from adapterstilts.api.explaining import explain as explained
    from adapterstilts.api.places import open_store

    found = explained(expression, base=base, store=open_store(session.store))
    Output(session).emit(found, lambda console: _explain(console, found))


def _explain(console: Console, found: dict[str, Any]) -> None:
    console.print(found["expression"], style="bold", soft_wrap=True)
    for family, formula in found["formulas"].items():
        console.print(f"  {family + ':':<12}{formula}", soft_wrap=True)
    if found["modules"]:
        rows = [
            (row["name"], row["method"], row["family"], row["trains"], _count(row["parameters"]), size(row["bytes"]))
            for row in found["modules"]
        ]
        columns = ("module", "method", "family", "trains", "parameters", "size")
        table(console, columns, rows, right="parameters size")
    base = found["base"]
    if base is not None:
        share = found["trainable"] / base["parameters"]
        console.print(f"base {base['name']}: {base['parameters']:,} frozen parameters; {share:.2%} of that trains")
    else:
        console.print("parameters are counted with --base")
    for note in found["notes"]:
        console.print(f"  {note}", style="dim", soft_wrap=True)


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"
