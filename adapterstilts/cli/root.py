"""The program and the table of its verbs; none of them is imported before it is used."""

from __future__ import annotations

import click

from adapterstilts import __version__
from adapterstilts.cli.group import Root

_RUNNING, _VERBS, _LOOKING = "adapterstilts.cli.running", "adapterstilts.cli.verbs", "adapterstilts.cli.looking"

SECTIONS = {
    "Recipes": {
        "run": (f"{_RUNNING}:run", "run what is missing of a recipe and report"),
        "plan": ("adapterstilts.cli.planning:plan", "show the stages of a recipe: done, stale or missing"),
        "validate": ("adapterstilts.cli.planning:validate", "check a recipe and its data; all problems at once"),
        "report": ("adapterstilts.cli.reporting:report", "tables, HTML, Markdown, CSV or JSON of what is measured"),
        "status": ("adapterstilts.cli.status:status", "how far runs have come; --watch looks on"),
        "logs": ("adapterstilts.cli.status:logs", "what stages print, now or as it comes"),
        "cancel": ("adapterstilts.cli.status:cancel", "stop a run or a stage; checkpoints are kept"),
    },
    "Questions": {
        "study": ("adapterstilts.cli.studying:study", "sequential or joint, scale, domains, distance: one page each"),
    },
    "One step, without a recipe": {
        "train": (f"{_VERBS}:train", "train a module on a task or a mix of tasks"),
        "stack": (f"{_VERBS}:stack", "train a fresh module over frozen ones"),
        "fuse": (f"{_VERBS}:fuse", "train a mixture of frozen modules"),
        "merge": (f"{_VERBS}:merge", "make one module of several, without training"),
        "evaluate": ("adapterstilts.cli.measuring:evaluate", "score a module in every language of a task"),
        "retrieve": ("adapterstilts.cli.measuring:retrieve", "search translations with the base and with modules"),
    },
    "Sentences of your own": {
        "predict": ("adapterstilts.cli.predicting:predict", "a module's answers to examples of your own"),
        "mine": ("adapterstilts.cli.bitext:mine", "translation pairs of two files"),
        "nearest": ("adapterstilts.cli.bitext:nearest", "the lines of a file nearest to each query"),
        "embed": ("adapterstilts.cli.bitext:embed", "one vector a line"),
    },
    "Look": {
        "ls": (f"{_LOOKING}:ls", "list tasks, methods, bases, modules, recipes, runs, ..."),
        "show": (f"{_LOOKING}:show", "one task, method, recipe, module or artifact"),
        "explain": (f"{_LOOKING}:explain", "what a composition computes, trains and costs"),
        "usage": ("adapterstilts.cli.usage:usage", "which module a fusion used, by language and layer"),
    },
    "Data": {
        "data": ("adapterstilts.cli.data:data", "check, stats, leaks, fetch, pack, unpack of data sets"),
        "export": ("adapterstilts.cli.exporting:export", "predictions for XTREME; modules for peft, AdapterHub, plain"),
        "push": ("adapterstilts.cli.sharing:push", "share a module with its model card, on the Hub or in a folder"),
        "pull": ("adapterstilts.cli.sharing:pull", "take a shared module into the store"),
        "import": ("adapterstilts.cli.exchange:import_", "modules from plain peft and AdapterHub directories"),
    },
    "Care": {
        "doctor": ("adapterstilts.cli.care:doctor", "check versions, machine, bases and store"),
        "store": ("adapterstilts.cli.care:store", "verify, clean and measure the store"),
        "stage": ("adapterstilts.cli.care:stage", "run one stage by its hash, as workers do"),
        "lab": ("adapterstilts.cli.lab:lab", "the embedded world: languages, samples, pretraining"),
    },
}


@click.group(
    "adapterstilts",
    cls=Root,
    lazy=SECTIONS,
    context_settings={
        "auto_envvar_prefix": "ADAPTERSTILTS",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
    epilog="Every option can be set in the environment: ADAPTERSTILTS_STORE, ADAPTERSTILTS_RUN_JOBS, ...",
)
@click.version_option(__version__, "--version", prog_name="adapterstilts")
def root() -> None:
    """What intermediate-task training buys in other languages: adapter modules on a frozen multilingual encoder.

    \b
    adapterstilts run recipes/quickstart.yaml --jobs auto
    adapterstilts train mnli --method lora --name mnli
    adapterstilts stack mnli --train xquad --name mnli+xquad
    adapterstilts evaluate mnli+xquad xquad
    """
