"""Commands that know the global options, groups that import a verb when it is used, and every error as one message."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click

from adapterstilts.errors import AdapterstiltsError
from adapterstilts.offline import go_offline
from adapterstilts.redact import redacted

FORMATS = ("human", "json", "jsonl", "quiet")
INTERRUPTED = 130


@dataclass
class Session:
    """The global options, as given before the verb, behind it, or by the environment; the last one wins."""

    format: str = "human"
    store: Path | None = None
    task_files: tuple[Path, ...] = ()
    verbose: int = 0
    no_color: bool = False


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    session = context.ensure_object(Session)
    if value not in (None, (), 0, False):
        setattr(session, str(parameter.name), value)


def _offline(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        go_offline()


def global_options() -> list[click.Option]:
    """The options that every verb takes."""

    def option(*names: str, **settings: Any) -> click.Option:
        return click.Option(names, callback=_remember, expose_value=False, **settings)

    return [
        option("--format", type=click.Choice(FORMATS), help="Form of the result on stdout.  [default: human]"),
        option(
            "--store",
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder of artifacts.  [default: $ADAPTERSTILTS_STORE or ./store]",
        ),
        option(
            "--tasks",
            "task_files",
            multiple=True,
            envvar="ADAPTERSTILTS_TASKS",
            metavar="PATH",
            type=click.Path(exists=True, path_type=Path),
            help="Your own task files: a YAML file or a folder of them; can be repeated.",
        ),
        option("-v", "--verbose", count=True, help="Say more; -vv also shows tracebacks."),
        click.Option(
            ["--offline"], is_flag=True, callback=_offline, expose_value=False, help="Refuse every connection."
        ),
        option("--no-color", is_flag=True, help="No colours (NO_COLOR works, too)."),
    ]


class Verb(click.Command):
    """A command with the global options and with examples in its help."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = tuple(examples)
        self.params.extend(global_options())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples."""
        if self.examples:
            with formatter.section("Examples"):
                formatter.write_text("\b\n" + "\n".join(self.examples))
        super().format_epilog(ctx, formatter)


def verb(name: str, *, examples: Sequence[str], **settings: Any) -> Callable[[Callable[..., Any]], Verb]:
    """``click.command`` for a `Verb`."""
    return click.command(name, **{"cls": Verb, "examples": examples, **settings})


class Group(click.Group):
    """A group whose commands are imported when they are used: ``lazy`` is name -> (module:attribute, short help)."""

    def __init__(
        self, *args: Any, lazy: Mapping[str, Mapping[str, tuple[str, str]]] | None = None, **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self.sections = lazy or {}
        self.lazy = {name: entry for section in self.sections.values() for name, entry in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Eager and lazy ones."""
        return [*self.lazy, *sorted(self.commands)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb by name."""
        if cmd_name not in self.lazy:
            return self.commands.get(cmd_name)
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A mistyped verb is told what was meant."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            from adapterstilts.recipe.problems import nearest

            hint = nearest(name, self.list_commands(ctx), f"{ctx.command_path} --help")
            ctx.fail(f"No such command '{name}'.\n  fix: {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Verbs by section, without importing any of them."""
        for title, section in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in section.items()])
        if self.commands:
            with formatter.section("Commands"):
                rows = [(name, command.get_short_help_str(80)) for name, command in sorted(self.commands.items())]
                formatter.write_dl(rows)


class Root(Group):
    """The program: every error becomes one message on stderr and an exit code."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.extend(global_options())

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **settings: Any,
    ) -> Any:
        """Run; with ``standalone_mode`` off errors are raised as they are."""
        arguments = list(sys.argv[1:] if args is None else args)
        if not standalone_mode:
            return super().main(arguments, prog_name, complete_var, False, **settings)
        try:
            result = super().main(arguments, prog_name or "adapterstilts", complete_var, False, **settings)
            sys.stdout.flush()
        except BrokenPipeError:
            # `adapterstilts ls tasks | head`: nobody reads on, and that is no error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(0)
        except (KeyboardInterrupt, click.Abort):
            interrupted(arguments)
        except Exception as error:
            _told(error, arguments)
        sys.exit(result if isinstance(result, int) else 0)


def interrupted(arguments: Sequence[str]) -> NoReturn:
    """Say how to go on, and leave with 130."""
    command = shlex.join(["adapterstilts", *arguments])
    click.echo(f"\ninterrupted; what is done is kept. To go on:\n  {command}", err=True)
    sys.exit(INTERRUPTED)


def verbosity(arguments: Sequence[str]) -> int:
    """How often -v was given, also where the command line could not be read."""
    short = sum(item.count("v") for item in arguments if item.startswith("-v") and set(item[1:]) == {"v"})
    return short + list(arguments).count("--verbose")


def _told(error: Exception, arguments: Sequence[str]) -> NoReturn:
    """One message for an error; the traceback with -vv only."""
    if verbosity(arguments) > 1:
        sys.stderr.write(redacted("".join(traceback.format_exception(error))))
    if isinstance(error, AdapterstiltsError):
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    if isinstance(error, click.ClickException):
        click.echo(f"error: {error.format_message()}", err=True)
        if isinstance(error, click.UsageError) and error.ctx is not None and "fix:" not in error.format_message():
            click.echo(f"  fix: {error.ctx.command_path} --help", err=True)
        sys.exit(2 if isinstance(error, click.UsageError) else error.exit_code)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] != "adapterstilts":
        click.echo(f"error: the package `{error.name}` is missing\n  fix: adapterstilts doctor", err=True)
        sys.exit(6)
    if isinstance(error, OSError) and error.strerror:
        name = str(error.filename or "")
        place = name if len(name) < 200 else f"{name[:100]}..."
        why = f"the operating system says so (errno {error.errno})"
        click.echo(f"error: {place}: {error.strerror}\n  why: {why}", err=True)
        sys.exit(3)
    first = redacted(str(error).splitlines()[0]) if str(error) else ""
    click.echo(f"error: {type(error).__name__}: {first}\n  why: this is not expected; -vv shows where", err=True)
    sys.exit(1)
