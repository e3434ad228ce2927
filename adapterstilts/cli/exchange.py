"""export peft|adapterhub|merged, import peft|adapterhub: modules to and from other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from adapterstilts.cli.group import Group, Session, Verb, verb
from adapterstilts.cli.output import Output, words

if TYPE_CHECKING:
    from rich.console import Console

out_option = click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="A new or empty folder."
)


def _exporter(library: Literal["peft", "adapterhub"], loads: str) -> Verb:
    @verb(
        library,
        examples=[
            f"adapterstilts export {library} mnli --out mnli-{library}",
            f"adapterstilts export {library} mnli+xquad --out parts",
        ],
        help=f"Write MODULE as {loads}, with equal outputs. A stack becomes one folder for each part and a README "
        "that says how to compose them.",
    )
    @click.argument("module")
    @out_option
    @click.pass_obj
    def export(session: Session, module: str, out: Path) -> int:
        from adapterstilts.api.exchange import export_module

        made = export_module(module, library, out, store=session.store)

        def show(console: Console) -> None:
            for part in made["parts"]:
                console.print(f"{part['method']} for {part['library']}: {out / part['folder']}", soft_wrap=True)
            console.print(f"how to load it: {out / 'README.md'}", soft_wrap=True)

        Output(session).emit(made, show, [made["folder"]])
        return 0

    return export


peft = _exporter("peft", "plain peft loads it (LoRA, DoRA, IA3)")
adapterhub = _exporter("adapterhub", "the adapters library loads it (bottlenecks)")


@verb(
    "merged",
    examples=[
        "adapterstilts export merged mnli --out mnli-plain",
        "adapterstilts export merged mnli+xquad --head squad --out plain",
    ],
)
@click.argument("module")
@out_option
@click.option("--head", metavar="NAME", help="The head to put on it, or none.  [default: the module's only one]")
@click.option("--base", help="Where the base lies now, if it was moved.")
@click.pass_obj
def merged(session: Session, module: str, out: Path, head: str | None, base: str | None) -> int:
    """Write a plain transformers checkpoint with MODULE folded into the weights of its base.

    That is exact for sums of weight deltas; bottlenecks and gates are refused, for they are no change of weights.
    """
    from adapterstilts.api.exchange import export_merged

    made = export_merged(module, out, head=head, base=base, store=session.store)

    def show(console: Console) -> None:
        on = f", head {made['head']}" if made["head"] else ""
        if made["heads_left_out"]:
            console.print(f"without the heads {', '.join(made['heads_left_out'])}", soft_wrap=True)
        console.print(f"{made['architecture']}{on}: {made['changed']} linear maps changed, {out}", soft_wrap=True)

    Output(session).emit(made, show, [made["folder"]])
    return 0


EXPORTS = (peft, adapterhub, merged)


@click.group("import", cls=Group)
def import_() -> None:
    """Modules from directories of other libraries."""


def _importer(library: Literal["peft", "adapterhub"], reads: str) -> Verb:
    @verb(
        library,
        examples=[
            f"adapterstilts import {library} downloaded --base xlm-roberta-large --name theirs",
            f"adapterstilts import {library} someone/adapter@main --base xlm-roberta-base --name theirs --format json",
        ],
        help=f"Take {reads} into the store, from a folder or from the Hub. Only safetensors are read.",
    )
    @click.argument("source", metavar="DIR|OWNER/NAME")
    @click.option("--base", required=True, help="The base it was trained on: lab/s0, a folder, a Hub name.")
    @click.option("--name", required=True, help="What the module is called here.")
    @click.pass_obj
    def take(session: Session, source: str, base: str, name: str) -> int:
        from adapterstilts.api.exchange import import_module

        made: dict[str, Any] = import_module(library, source, base=base, name=name, store=session.store)
        output = Output(session)
        if made["ignored"]:
            output.warn([f"left out: {', '.join(made['ignored'][:4])} ({len(made['ignored'])} tensors, such as heads)"])

        def show(console: Console) -> None:
            console.print(f"module `{name}` on {made['base']}: {made['expression']}", soft_wrap=True)
            for leaf in made["modules"]:
                console.print(f"{leaf['leaf']}: {leaf['name']} {words(leaf['parameters'])}", soft_wrap=True)

        output.emit(made, show)
        return 0

    return take


_READS = {"peft": "a LoRA, DoRA or IA3 of plain peft", "adapterhub": "a bottleneck or a setup of AdapterHub"}
for _library, _reads in _READS.items():
    import_.add_command(_importer(_library, _reads))  # type: ignore[arg-type]
