"""Task files, bases, module directories, archives, command lines and environments that cannot be."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.bad_inputs.case import Bad, Content

# -- task files -------------------------------------------------------------------------------------------------------

TASK = "format: classification\nlanguages: [en]\nlabels: [a, b]\nmetric: accuracy\n"
SOURCE = "sources:\n  - {name: raw, layout: raw, files: {train: x.jsonl}}\n"


def task(text: str | bytes, *told: str, code: int = 2) -> Bad:
    return Bad(("show", "bad"), code, told, {"tasks/bad.yaml": text})


TASKS = {
    "empty": task("", "tasks/bad.yaml:1", "format"),
    "a list": task("- a\n", "tasks/bad.yaml:1", "a task is a mapping"),
    "no YAML": task("format: [\n", "tasks/bad.yaml:", "this is not YAML"),
    "latin-1": task(b"title: \xe4\n", "tasks/bad.yaml", "not UTF-8"),
    "a key twice": task(TASK + "metric: f1\n", "tasks/bad.yaml:5", "stands twice"),
    "an unknown key": task(TASK + "metrik: f1\n", "tasks/bad.yaml:5", "did you mean `metric`?"),
    "an unknown format": task(TASK.replace("classification", "parsing"), "tasks/bad.yaml:1", "format"),
    "another name": task(TASK + "name: other\n", "tasks/bad.yaml:5", "the task is named `other`"),
    "no labels": task(TASK.replace("labels: [a, b]\n", ""), "tasks/bad.yaml", "needs labels"),
    "labels that repeat": task(TASK.replace("[a, b]", "[a, a]"), "tasks/bad.yaml", "labels repeat"),
    "labels from no file": task(TASK.replace("[a, b]", "{file: none.txt}"), "tasks/bad.yaml", "none.txt", code=3),
    "languages as a word": task(TASK.replace("[en]", "3"), "tasks/bad.yaml:2", "languages"),
    "no metric": task(TASK.replace("metric: accuracy\n", ""), "tasks/bad.yaml:1", "metric"),
    "a length of three": task(TASK + "settings: {max_length: 3}\n", "tasks/bad.yaml:5", "max_length"),
    "a pool of max": task(TASK + "settings: {pool: max}\n", "tasks/bad.yaml:5", "pool"),
    "a source of no files": task(TASK + "sources: [{name: raw}]\n", "tasks/bad.yaml:5", "needs layout and files"),
    "a source twice": task(TASK + SOURCE + SOURCE.split("\n", 1)[1], "tasks/bad.yaml", "source names repeat"),
    "an unknown reader": task(TASK + SOURCE.replace("raw,", "raw, reader: xml,", 1), "tasks/bad.yaml:6", "reader"),
    "a file that climbs": task(TASK + SOURCE.replace("x.jsonl", "../x"), "tasks/bad.yaml:6", "leaves the folder"),
    "an absolute file": task(TASK + SOURCE.replace("x.jsonl", "/etc/passwd"), "tasks/bad.yaml:6", "leaves the folder"),
    "a code that climbs": task(
        TASK + SOURCE.replace("layout: raw", "layout: raw, codes: {en: ../..}"), "tasks/bad.yaml:6", "leaves the folder"
    ),
    "a bare Hub name": task(
        TASK + "sources: [{name: h, kind: hub, repo: x, splits: {dev: d}}]\n", "tasks/bad.yaml:5", "namespace/name"
    ),
    "an alias bomb": task(
        "title: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"k{n}: &b{n} [{', '.join([f'*b{n - 1}' if n else '*a'] * 9)}]\n" for n in range(9)
        ), "tasks/bad.yaml", "more than",
    ),
}  # fmt: skip

# -- bases ------------------------------------------------------------------------------------------------------------

RUN = ("train", "t-nli", "--base", "./base", "--limit", "8", "--steps", "1")
ONE = {"x": torch.ones(1)}


def base(
    prepare: Callable[[Path], None], *told: str, code: int = 3, config: Content = '{"model_type": "roberta"}'
) -> Bad:
    def make(folder: Path) -> None:
        (folder / "base").mkdir(exist_ok=True)
        prepare(folder / "base")

    return Bad(RUN, code, told, {"base/config.json": config}, make)


def weights(folder: Path) -> None:
    save_file(ONE, folder / "model.safetensors")


BASES = {
    "no weights": base(lambda folder: None, "base", "safetensors"),
    "a pickle": base(lambda folder: torch.save(ONE, folder / "pytorch_model.bin"), "pickled weights are not read"),
    "another architecture": base(weights, "base", "bert", config='{"model_type": "bert"}'),
    "no JSON": base(weights, "base/config.json", config="{"),
    "a list for a configuration": base(weights, "base/config.json", config="[]"),
    "no tokenizer": base(weights, "base", "tokenizer"),
    "remote code": base(
        weights, "base/config.json", "code", config='{"model_type": "roberta", "auto_map": {"AutoModel": "m.M"}}'
    ),
}

# -- modules of plain libraries ---------------------------------------------------------------------------------------

LORA = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["query"]}
IMPORT = ("import", "peft", "foreign", "--base", "lab/s0", "--name", "x")


def foreign(prepare: Callable[[Path], None] | None, *told: str, config: Content = LORA, code: int = 3) -> Bad:
    def make(folder: Path) -> None:
        if prepare is not None:
            prepare(folder / "foreign")

    return Bad(IMPORT, code, told, {"foreign/adapter_config.json": config}, make)


def lora(**tensors: torch.Tensor) -> Callable[[Path], None]:
    start = "base_model.model.encoder.layer.0.attention.self.query."
    stored = {start + name.replace("__", "."): tensor for name, tensor in tensors.items()}
    return lambda folder: save_file(stored, folder / "adapter_model.safetensors")


A, B = torch.zeros(1, 96), torch.zeros(96, 1)
FOREIGN = {
    "nothing": Bad(IMPORT, 2, ("foreign", "does not exist")),
    "no weights": foreign(None, "foreign", "weights are missing"),
    "a pickle": foreign(lambda f: torch.save(ONE, f / "adapter_model.bin"), "foreign/adapter_model.bin", "run code"),
    "weights that are text": foreign(
        lambda f: (f / "adapter_model.safetensors").write_text("x"), "foreign", "cannot be read"
    ),
    "a length that lies": foreign(
        lambda f: (f / "adapter_model.safetensors").write_bytes((1 << 62).to_bytes(8, "little")), "foreign"
    ),
    "no JSON": foreign(lora(lora_A__weight=A), "foreign", "cannot be read", config="{"),
    "another kind": foreign(lora(lora_A__weight=A), "peft_type LOHA", config={**LORA, "peft_type": "LOHA"}),
    "another rank": foreign(lora(lora_A__weight=A, lora_B__weight=B), "ranks", config={**LORA, "r": 7}),
    "half of a pair": foreign(lora(lora_A__weight=A), "foreign", "lora_B"),
    "another width": foreign(lora(lora_A__weight=torch.zeros(1, 5), lora_B__weight=B), "foreign", "does not fit"),
    "another place": foreign(
        lambda f: save_file({"base_model.model.decoder.lora_A.weight": A}, f / "adapter_model.safetensors"), "foreign"
    ),
    "a link out of the folder": foreign(
        lambda f: os.symlink("/etc/hostname", f / "adapter_model.safetensors"), "foreign", "link"
    ),
}

# -- archives ---------------------------------------------------------------------------------------------------------

UNPACK = ("data", "unpack", "bad.tar", "--out", "out")
SUM = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of b"x"


def archive(name: str, *told: str, kind: bytes = tarfile.REGTYPE, link: str = "", **manifest: object) -> Bad:
    """One file named so, and a manifest that agrees with it."""

    def make(folder: Path) -> None:
        plain = {"schema_version": 1, "files": {name: {"sha256": SUM, "bytes": 1}}, **manifest}
        with tarfile.open(folder / "bad.tar", "w") as tar:
            text = json.dumps(plain).encode()
            first = tarfile.TarInfo("manifest.json")
            first.size = len(text)
            tar.addfile(first, io.BytesIO(text))
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, 1 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"x"))

    return Bad(UNPACK, 3, ("bad.tar", *told), prepare=make)


ARCHIVES = {
    "nothing": Bad(UNPACK, 3, ("no such archive",)),
    "empty": Bad(UNPACK, 3, ("bad.tar",), {"bad.tar": ""}),
    "text": Bad(UNPACK, 3, ("bad.tar",), {"bad.tar": "hello\n" * 500}),
    "a name that climbs": archive("../x", "leaves the folder"),
    "a name that climbs inside": archive("a/../../x", "leaves the folder"),
    "an absolute name": archive("/tmp/x", "absolute"),
    "a name of Windows": archive("a\\..\\x", "absolute"),
    "a symbolic link": archive("a", "no plain file", kind=tarfile.SYMTYPE, link="/etc/passwd"),
    "a hard link": archive("a", "no plain file", kind=tarfile.LNKTYPE, link="manifest.json"),
    "a device": archive("a", "no plain file", kind=tarfile.CHRTYPE),
    "a pipe": archive("a", "no plain file", kind=tarfile.FIFOTYPE),
    "another checksum": archive("a", "checksum", files={"a": {"sha256": "0" * 64, "bytes": 1}}),
    "a file too many": archive("a", "does not belong", files={}),
    "a file too few": archive("a", "missing", files={name: {"sha256": SUM, "bytes": 1} for name in "ab"}),
    "another schema": archive("a", "another version", schema_version=99),
    "no list of files": archive("a", "manifest cannot be read", files=3),
}  # fmt: skip

# -- command lines and the environment --------------------------------------------------------------------------------

VERBS = (
    "run",
    "plan",
    "validate",
    "report",
    "train",
    "stack",
    "fuse",
    "merge",
    "evaluate",
    "retrieve",
    "mine",
    "nearest",
)
COMMANDS = {
    **{f"{verb} of nothing": Bad((verb,), 2, (verb, "fix:")) for verb in VERBS},
    **{f"{verb} with a flag": Bad((verb, "--flagg"), 2, ("--flagg", "fix:")) for verb in VERBS},
    "a folder for a recipe": Bad(("plan", "tasks"), 3, ("no recipe `tasks`", "it is a folder")),
    "a store that is a file": Bad(("run", "small.yaml", "--store", "small.yaml"), 2, ("--store",)),
    "mine without a file": Bad(("mine", "a.txt", "b.txt", "--base", "lab/s0"), 3, ("a.txt",)),
    "mine of an empty file": Bad(("mine", "a", "b", "--base", "lab/s0"), 3, ("a",), {"a": "", "b": "x\n"}),
    "mine of no text": Bad(("mine", "a", "b", "--base", "lab/s0"), 3, ("a:1", "UTF-8"), {"a": b"\xff\n", "b": "x\n"}),
    "embed without a base": Bad(("embed", "small.yaml", "--out", "x.npy", "--base", "lab/zz"), 3, ("no shipped base",)),
    "embed as csv": Bad(("embed", "small.yaml", "--out", "x.csv", "--base", "lab/s0"), 3, ("x.csv", "x.parquet")),
    "predict of no JSON": Bad(("predict", "zz", "t-nli", "--input", "in.jsonl"), 5, ("zz",), {"in.jsonl": "x\n"}),
    "pack of no recipe": Bad(("data", "pack", "zz.yaml", "--out", "x.tar"), 3, ("zz.yaml",)),
    "check of no task": Bad(("data", "check", "zz"), 2, ("no task `zz`",)),
    "fetch of no task": Bad(("data", "fetch", "zz", "--out", "d"), 2, ("no task `zz`",)),
    "a NUL in an argument": Bad(("plan", "a\0b"), 3, ("recipe",)),
    "a very long argument": Bad(("plan", "a" * 5000), 3, ("File name too long",)),
}  # fmt: skip
ENVIRONMENT = {
    "a format of no kind": Bad(("ls", "tasks"), 2, ("xml",), environment={"ADAPTERSTILTS_FORMAT": "xml"}),
    "jobs in words": Bad(("run", "small.yaml"), 2, ("jobs",), environment={"ADAPTERSTILTS_RUN_JOBS": "many"}),
    "tasks that are nowhere": Bad(("ls", "tasks"), 2, ("zz",), environment={"ADAPTERSTILTS_TASKS": "zz"}),
    "a store that is a file": Bad(("ls", "modules"), 2, ("x",), {"x": ""}, environment={"ADAPTERSTILTS_STORE": "x"}),
    "a store below a file": Bad(
        ("run", "small.yaml"), 3, ("small.yaml/x",), environment={"ADAPTERSTILTS_STORE": "small.yaml/x"}
    ),
    "verbose in words": Bad(("ls", "tasks"), 2, ("much",), environment={"ADAPTERSTILTS_VERBOSE": "much"}),
}  # fmt: skip
PLACES = {
    "task file": TASKS,
    "base": BASES,
    "foreign module": FOREIGN,
    "archive": ARCHIVES,
    "command": COMMANDS,
    "environment": ENVIRONMENT,
}
