"""push, pull: modules to and from others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adapterstilts.cli.group import Session, verb
from adapterstilts.cli.output import Output, size

if TYPE_CHECKING:
    from rich.console import Console


@verb(
    "push",
    examples=[
        "adapterstilts push mnli+xquad --to me/xlmr-mnli-xquad --dry-run",
        "adapterstilts push mnli+xquad --to me/xlmr-mnli-xquad --private",
        "adapterstilts push mnli+xquad --to ./shared",
    ],
)
@click.argument("module")
@click.option("--to", required=True, metavar="OWNER/NAME|./DIR", help="A repository of the Hub, or a new folder.")
@click.option("--name", help="What it is called there.  [default: MODULE, without what stands before a slash]")
@click.option("--dry-run", is_flag=True, help="Show the model card and the files, and upload nothing.")
@click.option("--private", is_flag=True, help="A new repository is private.")
@click.pass_obj
def push(session: Session, module: str, to: str, name: str | None, dry_run: bool, private: bool) -> int:
    """Share MODULE with its model card: lineage, scores by language, data licences, the exact recipe, a snippet."""
    from adapterstilts.api.sharing import push as share

    made = share(
        module, to, name=name, dry_run=dry_run, private=private, store=session.store, task_files=session.task_files
    )

    def show(console: Console) -> None:
        if dry_run:
            console.print(made["card"], soft_wrap=True, markup=False, highlight=False)
        for file in made["files"]:
            console.print(f"{size(file['bytes']):>10}  {file['path']}", soft_wrap=True)
        done = f"shared as {made['url'] or to}" if not dry_run else f"{to}: nothing was uploaded"
        console.print(done, soft_wrap=True)

    Output(session).emit(made, show, [made["url"] or to])
    return 0


@verb(
    "pull",
    examples=[
        "adapterstilts pull someone/xlmr-mnli-xquad --name theirs",
        "adapterstilts pull someone/xlmr-mnli-xquad@v1 --format json",
        "adapterstilts pull ./shared --base ../base",
    ],
)
@click.argument("source", metavar="OWNER/NAME[@REVISION]|./DIR")
@click.option("--name", help="What it is called here.  [default: its own name]")
@click.option("--base", help="Where its base lies, if that was a local folder.")
@click.pass_obj
def pull(session: Session, source: str, name: str | None, base: str | None) -> int:
    """Take a shared module into the store. Only JSON and safetensors are read, and every file is checked."""
    from adapterstilts.api.sharing import pull as take

    made = take(source, name=name, base=base, store=session.store)

    def show(console: Console) -> None:
        heads = f", with a head for {', '.join(made['tasks'])}" if made["tasks"] else ""
        console.print(f"module `{made['name']}` on {made['base']}{heads}", soft_wrap=True)

    Output(session).emit(made, show, [made["name"]])
    return 0
