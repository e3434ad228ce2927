"""Which source serves a task, language and split, and what identifies its data. Cheap and torch-free, for planning."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterstilts.data.root import DataRoot
from adapterstilts.errors import DataError
from adapterstilts.store.files import sha256
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import Gold, SourceSpec, TaskSpec

__all__ = ["DataRoot", "Resolved", "check_language", "hub_config", "own_source", "resolve"]

SPLIT_NAMES = {"validation": "dev", "val": "dev", "valid": "dev", "training": "train"}


@dataclass(frozen=True)
class Resolved:
    """A source chosen for one task, language and split.

    ``files``: role (rows, or source / target / gold for bitext) -> paths. ``gold_files`` complete blanked labels.
    """

    task: TaskSpec
    language: str
    split: str
    source: SourceSpec
    files: Mapping[str, tuple[Path, ...]]
    gold: Gold | None = None
    gold_files: tuple[Path, ...] = ()
    parts: tuple[Resolved, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def present(self) -> bool:
        """Whether there is something to read. The Hub counts as present: whether it answers is seen when reading."""
        if self.source.kind == "concat":
            return all(part.present for part in self.parts)
        return bool(self.files) or self.source.kind == "lab" or (self.source.kind == "hub" and not self.missing)

    @property
    def stand_in(self) -> bool:
        """Whether this is other data than the task's official ones; results must say so."""
        return self.source.stand_in or any(part.stand_in for part in self.parts)

    @property
    def labelled(self) -> bool:
        if self.parts:
            return all(part.labelled for part in self.parts)
        return self.split not in self.source.blanked or bool(self.gold_files) or "gold" in self.files

    @property
    def notes(self) -> list[str]:
        return [note for note in [self.source.note, *(n for p in self.parts for n in p.notes)] if note]

    @property
    def size(self) -> int | None:
        """Examples the lab generates for the split."""
        return self.task.size(self.split, self.language)

    def paths(self) -> list[Path]:
        """All files that are read."""
        own = [path for role in sorted(self.files) for path in self.files[role]]
        return own + list(self.gold_files) + [path for part in self.parts for path in part.paths()]

    def require(self) -> Resolved:
        """Itself, or a DataError that says what was looked for."""
        if self.present:
            if gone := next((path for path in self.paths() if not path.is_file()), None):
                raise DataError("a file is gone since the plan was made", where=str(gone), fix="run again")
            return self
        missing = [*self.missing, *(m for part in self.parts if not part.present for m in part.missing)]
        raise DataError(
            f"no data for {self.task.name}/{self.language} {self.split}",
            where=self.task.name,
            why="looked for " + "; ".join(missing[:6]) + (f"; and {len(missing) - 6} more" if len(missing) > 6 else ""),
            fix=f"point --data at the folder, or put own/{self.task.name}/{self.split}-{self.language}.jsonl into it",
        )

    def fingerprint(self, sha256: Callable[[Path], str] = sha256) -> str:
        """Identity of the data and of how they are read.

        ``lab:VERSION:task:language:split:n:seed`` or ``hub:repo@revision:config:split`` for those; else a hash over
        the bytes of all files and the reading part of the source (columns, label map, filter).
        """
        if self.source.kind == "lab":
            from adapterstilts.lab import WORLD_VERSION

            source = self.source
            parts = [WORLD_VERSION, source.task, self.language, self.split, self.size, source.seed]
            return ":".join(map(str, ["lab", *parts]))
        reading = self.source.model_dump(
            mode="json", include={"reader", "options", "columns", "label_map", "drop", "filter", "slice", "sort_target"}
        )
        if self.source.kind == "hub" and not self.files:
            place = f"{hub_config(self)}:{self.source.splits[self.split]}"
            identity = f"hub:{self.source.repo}@{self.source.revision}:{place}"
            return f"{identity}:{_digest(reading)[:16]}"
        hashes = {role: [sha256(path) for path in paths] for role, paths in self.files.items()}
        gold = [sha256(path) for path in self.gold_files]
        parts_of = [part.fingerprint(sha256) for part in self.parts]
        return "files:" + _digest([reading, self.language, hashes, gold, parts_of])

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON, for PrepareSpec.source: whole, so that a stage needs no registry."""
        return {
            "task": {**self.task.core(), "sizes": {self.split: self.size} if self.source.kind == "lab" else {}},
            "language": self.language,
            "split": self.split,
            "source": self.source.model_dump(mode="json", exclude_defaults=True),
            "files": {role: [str(path) for path in paths] for role, paths in self.files.items()},
            "gold": self.gold.model_dump(mode="json") if self.gold else None,
            "gold_files": [str(path) for path in self.gold_files],
            "parts": [part.plain for part in self.parts],
            "missing": list(self.missing),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Resolved:
        sizes = {split: n for split, n in plain["task"].get("sizes", {}).items() if n is not None}
        return cls(
            task=TaskSpec.model_validate({**plain["task"], "sizes": sizes}),
            language=plain["language"],
            split=plain["split"],
            source=SourceSpec.model_validate(plain["source"]),
            files={role: tuple(map(Path, paths)) for role, paths in plain["files"].items()},
            gold=Gold.model_validate(plain["gold"]) if plain["gold"] else None,
            gold_files=tuple(map(Path, plain["gold_files"])),
            parts=tuple(cls.from_plain(part) for part in plain["parts"]),
            missing=tuple(plain["missing"]),
        )


def resolve(
    task: TaskSpec,
    language: str,
    split: str,
    root: DataRoot | Path | str | Mapping[str, Any] | None,
    registry: TaskRegistry | None = None,
) -> Resolved:
    """The source that serves a split: real before stand-in, labelled before blanked, then the order of the YAML.

    The Hub serves where ``DataRoot.online`` allows it. Nothing found gives a Resolved that is not ``present`` and says
    in ``missing`` what was looked for.

    Raises:
        DataError: a language or split the task does not have.
    """
    check_language(task, language, split)
    root = DataRoot.of(root)
    sources = [own_source(task), *task.sources]
    if task.source is not None:
        sources = [source for source in sources if source.name == task.source]
    found = [
        _located(source, task, language, split, root, registry) for source in sources if source.has(language, split)
    ]
    order = {source.name: i for i, source in enumerate(sources)}
    best = sorted(
        (candidate for candidate in found if candidate.present),
        key=lambda candidate: (candidate.stand_in, not candidate.labelled, order[candidate.source.name]),
    )
    if best:
        return best[0] if split == "train" else _beside_train(best, task, language, root, registry)
    missing = [place for candidate in found for place in candidate.missing]
    nothing = missing or [f"no source of {task.name} has {split} in {language}"]
    return Resolved(task, language, split, sources[0], {}, missing=tuple(dict.fromkeys(nothing)))


def _beside_train(
    best: list[Resolved], task: TaskSpec, language: str, root: DataRoot, registry: TaskRegistry | None
) -> Resolved:
    """The best source that does not overlap the one that the train split comes from (``SourceSpec.together``).

    Stand-ins are cut out of official splits: a model trained on a piece of the official dev set must not be scored on
    that dev set. ``source: NAME`` in the task's overrides says otherwise.
    """
    if "train" not in task.splits or not any(source.together for source in task.sources):
        return best[0]
    train = resolve(task, language, "train", root, registry)
    if not (train.present and train.source.together):
        return next((c for c in best if not c.source.together), best[0])
    same = next((c for c in best if c.source.name == train.source.name), None)
    why = f"its train split is the stand-in `{train.source.name}`, cut out of this one; `source: {best[0].source.name}`"
    return same or Resolved(task, language, best[0].split, best[0].source, {}, missing=(f"{why} takes it anyway",))


def check_language(task: TaskSpec, language: str, split: str) -> None:
    """Raise DataError for a language or split that the task does not have."""
    if language not in task.languages:
        near = difflib.get_close_matches(language, task.languages, n=1)
        raise DataError(
            f"{task.name} has no language `{language}`",
            why=f"it has {', '.join(task.languages)}",
            fix=f"did you mean `{near[0]}`?" if near else None,
        )
    if split not in task.splits:
        meant = SPLIT_NAMES.get(split)
        raise DataError(
            f"{task.name} has no split `{split}`",
            why=f"it has {', '.join(task.splits)}",
            fix=f"did you mean `{meant}`?" if meant in task.splits else None,
        )


def own_source(task: TaskSpec) -> SourceSpec:
    """The user's own files, for every task: own/<task>/<split>-<language>.jsonl with canonical fields.

    Bitext: <split>-<language>.source.tsv and .target.tsv (id<TAB>text), and .gold.tsv (id<TAB>id) when known.
    """
    stem = f"{task.name}/{{split}}-{{language}}"
    if task.format == "bitext":
        sides: dict[str, str] = {side: f"{stem}.{side}.tsv" for side in ("source", "target")}
        gold = [Gold(layout="own", file=f"{stem}.gold.tsv", form="pairs")]
        return SourceSpec(
            name="own",
            layout="own",
            reader="pairs",
            files=dict.fromkeys(task.splits, sides),
            gold=dict.fromkeys(task.splits, gold),
            blanked=task.splits,
        )
    return SourceSpec(name="own", layout="own", files=dict.fromkeys(task.splits, f"{stem}.jsonl"))


def _located(
    source: SourceSpec, task: TaskSpec, language: str, split: str, root: DataRoot, registry: TaskRegistry | None
) -> Resolved:
    bare = Resolved(task, language, split, source, {})
    if source.kind == "concat":
        tasks = registry or TaskRegistry()
        parts = tuple(resolve(tasks.get(name), language, split, root, registry) for name in source.tasks)
        lacking = tuple(m for part in parts if not part.present for m in part.missing)
        return Resolved(task, language, split, source, {}, parts=parts, missing=lacking)
    if source.kind == "lab":
        return bare
    if source.kind == "hub":
        pattern = f"{source.repo}/{hub_config(bare)}/{source.splits[split]}.parquet"
        found, _ = root.find("hub", [pattern])
        if found or not root.asks_hub:
            missing_here = () if found else (f"hub:{source.repo} (not asked: give `hub: true`)",)
            return Resolved(task, language, split, source, {"rows": found} if found else {}, missing=missing_here)
        return bare
    fill = {"language": language, "code": source.code(language), "split": split}
    wanted = source.files[split]
    roles = wanted if isinstance(wanted, dict) else {"rows": wanted}
    files: dict[str, tuple[Path, ...]] = {}
    missing: list[str] = []
    for role, patterns in roles.items():
        listed = [patterns] if isinstance(patterns, str) else patterns
        files[role], tried = root.find(source.layout, [pattern.format_map(fill) for pattern in listed])
        missing += tried if not files[role] else []
    if missing:
        return Resolved(task, language, split, source, {}, missing=tuple(missing))
    for gold in source.gold.get(split, ()):
        if paths := root.find(gold.layout, [gold.file.format_map(fill)])[0]:
            return Resolved(task, language, split, source, files, gold, paths)
    return Resolved(task, language, split, source, files)


def hub_config(resolved: Resolved) -> str:
    """The Hub configuration of a language; ``default`` when the repository has one only."""
    code = resolved.source.code(resolved.language)
    pattern = resolved.source.config or "default"
    return pattern.format_map({"language": resolved.language, "code": code, "split": resolved.split})


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
