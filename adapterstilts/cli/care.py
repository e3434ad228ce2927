"""doctor, store, stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from adapterstilts.cli.group import Group, Session, verb
from adapterstilts.cli.output import Output, size, table

if TYPE_CHECKING:
    from rich.console import Console

    from adapterstilts.store import Store

MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "error": ("error", "bold red")}


@verb(
    "doctor",
    examples=[
        "adapterstilts doctor",
        "adapterstilts doctor --base ../base --format json",
        "adapterstilts doctor --quick",
        "adapterstilts doctor precision --base lab/s0 --task lab-nli",
    ],
)
@click.argument("what", required=False, type=click.Choice(["precision"]))
@click.option(
    "--base", "bases", multiple=True, default=("lab/s0",), show_default=True, help="Also read this base; repeatable."
)
@click.option("--quick", is_flag=True, help="Do not ask torch for devices.")
@click.option("--task", help="With `precision`: compare on examples of this task.  [default: random rows]")
@click.option("--examples", type=click.IntRange(1), default=16, show_default=True, help="With `precision`: how many.")
@click.option("--data", envvar="ADAPTERSTILTS_DATA", metavar="DIR", help="With `precision`: where the task's data are.")
@click.pass_obj
def doctor(
    session: Session,
    what: str | None,
    bases: tuple[str, ...],
    quick: bool,
    task: str | None,
    examples: int,
    data: str | None,
) -> int:
    """Check versions against the tested ranges, threads, memory, devices, bases, and every file of the store.

    `doctor precision` measures how far each base in bf16, int8, nf4 and int8-dynamic is from itself in fp32.
    """
    if what == "precision":
        return _precision(session, bases, task, examples, data)
    from adapterstilts.api.health import doctor as examine

    found = examine(store=session.store, bases=bases, devices=not quick)

    def show(console: Console) -> None:
        from rich.text import Text

        rows = [(Text(*MARKS[c["state"]]), c["name"], c["value"], c["fix"] or "") for c in found["checks"]]
        table(console, ("", "what", "found", "fix"), rows)

    Output(session).emit(found, show, [f"{c['state']} {c['name']}" for c in found["checks"] if c["state"] != "ok"])
    return 0 if found["ok"] else 1


def _precision(session: Session, bases: tuple[str, ...], task: str | None, examples: int, data: str | None) -> int:
    from adapterstilts.api.precision import precision

    output = Output(session)
    rows = []
    for base in bases:
        for found in precision(base, task, examples=examples, data=data, task_files=session.task_files):
            rows.append({"base": base, **found})
            output.say(f"{base} {found['name']}: {found['state']}")
    plain = {"schema_version": 1, "task": task, "examples": examples, "rows": rows}

    def number(row: dict[str, Any], key: str, form: str) -> str:
        return "" if row.get(key) is None else format(row[key], form)

    def show(console: Console) -> None:
        shown = [
            (
                row["base"],
                row["name"],
                size(row["bytes"]) if "bytes" in row else "",
                number(row, "hidden", ".1e"),
                number(row, "loss", "+.1e"),
                number(row, "cosine", ".4f"),
                row["state"] + (f": {row['fix']}" if row.get("fix") else ""),
            )
            for row in rows
        ]
        table(console, ("base", "precision", "held", "hidden", "loss", "cosine", "state"), shown)
        console.print("hidden: relative error of the last layer; loss: difference; cosine: of a LoRA's gradients")

    output.emit(plain, show, [row["name"] for row in rows if row["state"].startswith("ok")])
    return 0


@click.group("store", cls=Group)
def store() -> None:
    """The store of artifacts: verify, clean, measure, look inside."""


def _opened(session: Session) -> Store:
    from adapterstilts.api.places import open_store

    return open_store(session.store)


@verb("verify", examples=["adapterstilts store verify", "adapterstilts store verify mnli --format json"])
@click.argument("names", nargs=-1, metavar="[NAME|HASH]...")
@click.pass_obj
def verify(session: Session, names: tuple[str, ...]) -> int:
    """Re-read every file (of all artifacts, or of those named) and compare it with its manifest.

    Of kept embeddings the shapes are compared.
    """
    opened = _opened(session)
    from adapterstilts.api.kept import check_kept

    damage = opened.verify([opened.resolve(name) for name in names] if names else None)
    damage += [] if names else check_kept(opened)
    checked = len(names) or sum(1 for _ in opened.hashes())
    plain = {
        "schema_version": 1,
        "ok": not damage,
        "checked": checked,
        "damaged": [{"name": item.hash, "kind": item.kind, "file": item.file, "why": item.why} for item in damage],
    }

    def show(console: Console) -> None:
        for item in damage:
            console.print(f"damaged: {item.kind} {item.hash[:12]} {item.file}: {item.why}", soft_wrap=True)
        console.print(f"{checked} artifacts, {len(damage)} damaged files")

    output = Output(session)
    output.emit(plain, show, [item.hash for item in damage])
    if damage:
        output.say("  fix: adapterstilts store gc --damaged, then run the recipe again")
    return 5 if damage else 0


@verb(
    "gc",
    examples=[
        "adapterstilts store gc --dry-run",
        "adapterstilts store gc --runs 3",
        "adapterstilts store gc --damaged",
    ],
)
@click.option(
    "--runs", default=1, show_default=True, type=click.IntRange(0), help="Keep the last N runs of each recipe."
)
@click.option("--damaged", is_flag=True, help="Also remove artifacts whose files are not what was written.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_obj
def gc(session: Session, runs: int, damaged: bool, dry_run: bool) -> None:
    """Remove artifacts that no named module and no recent run needs, and leftovers of dead processes.

    Kept embeddings and tuned layers go with their module; those of the bare base stay.
    """
    from adapterstilts.api.care import collect

    found = collect(_opened(session), runs=runs, damaged=damaged, dry_run=dry_run)
    text = "would remove" if dry_run else "removed"
    counts = f"{len(found['artifacts'])} artifacts, {len(found['embeddings'])} embeddings and tuned layers"
    line = f"{text} {counts} and {found['leftovers']} leftovers, {size(found['bytes'])}"
    Output(session).emit(found, lambda console: console.print(line), found["artifacts"])


@verb("du", examples=["adapterstilts store du", "adapterstilts store du --format json"])
@click.pass_obj
def du(session: Session) -> None:
    """How many artifacts of each kind there are, and their bytes."""
    found = [{"name": kind, "count": n, "bytes": total} for kind, (n, total) in _opened(session).du().items()]
    rows = [(entry["name"], entry["count"], size(float(str(entry["bytes"])))) for entry in found]
    rows.append(("all", sum(int(str(e["count"])) for e in found), size(sum(float(str(e["bytes"])) for e in found))))
    Output(session).emit(found, lambda console: table(console, ("kind", "count", "size"), rows, right="count size"))


@verb("show", examples=["adapterstilts store show mnli", "adapterstilts store show 3f2a91 --format json"])
@click.argument("name", metavar="NAME|HASH")
@click.pass_obj
def show(session: Session, name: str) -> None:
    """The manifest of an artifact."""
    opened = _opened(session)
    hash = opened.resolve(name)
    manifest = opened.manifest(hash)

    def human(console: Console) -> None:
        import yaml

        console.print(str(opened.path(hash)), style="bold", soft_wrap=True)
        console.print(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=110).rstrip(), soft_wrap=True)

    Output(session).emit(manifest, human, [str(opened.path(hash))])


for _command in (verify, gc, du, show):
    store.add_command(_command)


@click.group("stage", cls=Group)
def stage() -> None:
    """One stage by its hash: what workers on other machines call."""


@verb("run", examples=["adapterstilts stage run 3f2a91c0... --store /shared/store"])
@click.argument("hash")
@click.pass_obj
def run_one(session: Session, hash: str) -> None:
    """Run one planned stage, unless it is done. Its parents must be done."""
    from adapterstilts.api.care import run_hash

    output = Output(session)

    def tell(fraction: float, text: str) -> None:
        if session.verbose:
            output.say(f"{fraction:.0%} {text}")

    found: dict[str, Any] = run_hash(_opened(session), hash, tell)
    line = f"{found['name']}: {'made' if found['made'] else 'was there already'}"
    output.emit(found, lambda console: console.print(line, soft_wrap=True), [found["hash"]])


stage.add_command(run_one)
