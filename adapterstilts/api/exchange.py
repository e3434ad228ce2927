"""Modules to and from plain peft, plain adapters and plain transformers."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adapterstilts.api import environment
from adapterstilts.api.hub import download, is_folder
from adapterstilts.api.places import PathLike, absolute, module_base, open_store
from adapterstilts.errors import DataError, RecipeError
from adapterstilts.modules.composition import Leaf, check_name, leaves
from adapterstilts.modules.expressions import format_tree
from adapterstilts.modules.methods import Family, families_of, rows_of
from adapterstilts.plan.used import plain_facts
from adapterstilts.recipe.facts import Facts, Shape
from adapterstilts.stages.specs import BaseRef, ImportSpec
from adapterstilts.store import Store

if TYPE_CHECKING:
    from adapterstilts.modules.importing import Composed

Library = Literal["peft", "adapterhub"]


def export_module(module: str, library: Library, out: PathLike, *, store: PathLike | Store | None = None) -> Any:
    """Write a module's leaves as plain peft or adapters loads them, with a README that composes them.

    Returns:
        {schema_version, name, library, folder, expression, parts: [{folder, method, library, weight}]}

    Raises:
        RecipeError: a fusion, or a module that has nothing for this library. DataError: the folder is not empty.
    """
    environment.prepare()
    from adapterstilts.modules.artifact import read_module
    from adapterstilts.modules.exchange import export_parts

    opened = open_store(store)
    read = read_module(opened.path(opened.resolve(module)))
    base = str(module_base(opened, [module]))
    with new_folder(out) as folder:
        parts = export_parts(read, library, folder, _shown_base(base))
    about = {"schema_version": 1, "name": module, "library": library, "folder": str(out), "base": base}
    return {**about, "expression": format_tree(read.tree), "parts": [asdict(part) for part in parts]}


def export_merged(
    module: str,
    out: PathLike,
    *,
    head: str | None = None,
    base: str | None = None,
    store: PathLike | Store | None = None,
) -> Any:
    """Write a plain transformers checkpoint with the module folded into its base.

    Args:
        head: one of the module's heads to put on it; default its only one that transformers has a class for;
            ``none`` for no head.

    Returns:
        {schema_version, name, folder, base, architecture, changed, head}

    Raises:
        RecipeError: a module that is no change of weights: bottlenecks, gates. DataError: the folder is not empty.
    """
    environment.prepare()
    from adapterstilts.encoder.base import load_base
    from adapterstilts.modules.artifact import check_golden, read_module
    from adapterstilts.modules.attach import Adapted
    from adapterstilts.modules.merged import export_merged as write
    from adapterstilts.modules.merged import has_class

    opened = open_store(store)
    read = read_module(opened.path(opened.resolve(module)))
    ref = base or str(module_base(opened, [module]))
    if head is None:
        kept = [name for name, about in read.heads.items() if has_class(about)]
        if len(kept) > 1:
            raise RecipeError(f"which head of {', '.join(kept)}?", fix=f"--head {kept[0]}, or --head none")
        head = kept[0] if kept else "none"
    loaded = load_base(ref)
    adapted = Adapted(loaded, read.weights(), read.bound(), fusion=read.fusion())
    if read.precision == "fp32":
        check_golden(adapted, read.directory)
    with new_folder(out) as folder:
        made = write(read, loaded, adapted, folder, None if head == "none" else head)
    rest = [name for name in read.heads if name != made.head]
    about = {"schema_version": 1, "name": module, "folder": str(out), "base": ref}
    return {**about, **asdict(made), "heads_left_out": rest}


def import_module(
    library: Library, directory: PathLike, *, base: str, name: str, store: PathLike | Store | None = None
) -> Any:
    """Take a plain peft or adapters directory, or ``owner/name[@revision]`` on the Hub, into the store under a name.

    A setup of plain adapters (a stack, an AdapterFusion) is taken as the composition that it is.

    Returns:
        {schema_version, name, hash, base, expression, modules: [{leaf, method, parameters}], ignored}

    Raises:
        DataError: no such directory, a pickle, another base, or something that no method here says exactly.
    """
    environment.prepare()
    from adapterstilts.encoder.base import load_base
    from adapterstilts.modules.artifact import write_foreign
    from adapterstilts.modules.attach import Adapted
    from adapterstilts.modules.importing import check_fits, import_any
    from adapterstilts.plan.graph import make_stage

    check_name(name)
    opened, source = open_store(store), str(directory)
    if is_folder(source) and not Path(source).is_dir():
        raise RecipeError(f"the folder `{source}` does not exist", fix="a folder, or owner/name on the Hub")
    place = Path(source) if is_folder(source) else download(source)
    read = import_any(library, place)
    ref = base_ref(absolute(base), opened)
    weights = {leaf: part.weights for leaf, part in read.parts.items()}
    check_fits(weights, load_base(ref.ref), place)
    adapted = Adapted(load_base(ref.ref), weights, read.tree, fusion=read.fusion)
    spec = _import_spec(ref, library, read)
    stage = make_stage("import", spec, {}, f"import {library} {Path(source).name}")
    origin = str(place.resolve()) if is_folder(source) else source
    manifest = {
        "label": stage.label,
        "version": spec.version,
        "parents": {},
        "spec": spec.model_dump(mode="json"),
        "facts": {"from": origin, "ignored": list(read.ignored), "trained": leaves(read.tree)[-1]},
    }
    if not opened.has(stage.hash):
        with opened.write(stage.hash, "import", manifest) as folder:
            write_foreign(folder, adapted, base=ref.fingerprint, tokenizer=ref.tokenizer)
    opened.names.set(name, stage.hash)
    modules = [{"leaf": leaf, **part.method.model_dump(mode="json")} for leaf, part in weights.items()]
    about = {"schema_version": 1, "name": name, "hash": stage.hash, "base": ref.ref}
    return {**about, "expression": format_tree(read.tree), "modules": modules, "ignored": list(read.ignored)}


def _import_spec(base: BaseRef, library: Library, read: Composed) -> ImportSpec:
    """What identifies an imported module: its weights and, of a composition, how they stand on each other."""
    from adapterstilts.modules.artifact import leaf_id

    methods = [read.parts[leaf].weights.method for leaf in leaves(read.tree)]
    if isinstance(read.tree, Leaf):
        return ImportSpec(base=base, method=methods[0], library=library, leaf=read.tree.name)
    families = frozenset[Family]().union(*map(families_of, methods))
    shape: Shape = "fuse" if read.fusion else "stack"
    facts = Facts(families, shape=shape, methods=tuple(row.name for method in methods for row in rows_of(method)))
    tree, mixtures = format_tree(read.tree), leaf_id(read.fusion)
    return ImportSpec(base=base, method=None, library=library, leaf=mixtures, tree=tree, facts=plain_facts(facts))


def base_ref(base: str, store: Store) -> BaseRef:
    """A base with its fingerprints."""
    from adapterstilts.data.hashes import FileHashes
    from adapterstilts.encoder.reference import fingerprint, locate

    hashes = FileHashes(store.fingerprints)
    weights, tokenizer = fingerprint(locate(base), hashes)
    hashes.save()
    return BaseRef(ref=base, fingerprint=weights, tokenizer=tokenizer)


def _shown_base(base: str) -> str:
    """The base as transformers loads it: a shipped one by its folder."""
    from adapterstilts.encoder.reference import locate

    found = locate(base)
    return str(found.directory) if found.directory is not None else str(found.repository)


@contextmanager
def new_folder(out: PathLike) -> Iterator[Path]:
    """A folder that is there whole or not at all.

    Raises:
        DataError: something is there already.
    """
    place = Path(out)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        why = "an export never mixes with other files"
        raise DataError(f"`{out}` is not empty", why=why, fix="--out: a new folder")
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.parent / f".{place.name}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    temporary.mkdir()
    try:
        yield temporary
        if place.is_dir():
            place.rmdir()
        os.replace(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
