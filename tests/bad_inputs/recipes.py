"""Recipes that cannot be: text, structure, values, references."""

from __future__ import annotations

from tests.bad_inputs.case import Bad

HEAD = "name: x\nbase: lab/s0\ntrain: {steps: 1}\n"
WHOLE = HEAD + "modules:\n  nli: {train: [t-nli]}\narms:\n  none: {}\ntargets:\n  n: {task: t-nli, limit: 10}\n"


def recipe(text: str | bytes, *told: str, code: int = 2, **more: str | bytes) -> Bad:
    files = {"bad.yaml": text, **{f"{name}.yaml": content for name, content in more.items()}}
    return Bad(("run", "bad.yaml"), code, told, files)


def changed(old: str, new: str, *told: str, code: int = 2) -> Bad:
    assert old in WHOLE, old
    return recipe(WHOLE.replace(old, new, 1), *told, code=code)


def bomb() -> str:
    """Nine aliases of nine aliases ...: a few lines that stand for a billion words."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "name: x\nbase: lab/s0\nvars:\n" + "".join(f"  {line}\n" for line in lines)


RECIPES = {
    # text
    "an empty file": recipe("", "bad.yaml", "`name`"),
    "only a comment": recipe("# nothing\n", "bad.yaml", "`name`"),
    "a list": recipe("- name: x\n", "bad.yaml", "a recipe is a mapping"),
    "a word": recipe("recipe\n", "bad.yaml", "a recipe is a mapping"),
    "no YAML": recipe("name: [x\nbase: y\n", "bad.yaml:2", "this is not YAML"),
    "a tab for an indent": recipe("name: x\nmodules:\n\tnli: {}\n", "bad.yaml:3", "this is not YAML"),
    "two documents": recipe(WHOLE + "---\n" + WHOLE, "bad.yaml:", "this is not YAML"),
    "latin-1": recipe(b"name: \xe4\n", "bad.yaml", "not UTF-8"),
    "binary": recipe(bytes(range(256)), "bad.yaml", "not UTF-8"),
    "a NUL": recipe("name: x\x00\n", "bad.yaml", "this is not YAML"),
    "a tag that makes objects": recipe("name: !!python/object/apply:os.system [ls]\n", "bad.yaml:1", "tag"),
    "a key twice": recipe(WHOLE + "name: y\n", "bad.yaml:10", "the key `name` stands twice", "bad.yaml:1"),
    "a key that is a list": recipe("[a, b]: c\n", "bad.yaml:1", "a key must be a word"),
    "an alias of nothing": recipe("name: *x\n", "bad.yaml:1", "this is not YAML"),
    "an alias of itself": recipe("name: x\nvars: &v {a: *v}\n", "bad.yaml:2", "contains itself"),
    "an alias bomb": recipe(bomb(), "bad.yaml", "more than"),
    "nested too deeply": recipe("a: " * 60 + "b\n", "bad.yaml"),
    "lists nested too deeply": recipe("vars: {a: " + "[" * 4000 + "]" * 4000 + "}\n", "bad.yaml", "nested deeper"),
    # the top
    "an unknown key": changed("modules:", "module:", "bad.yaml:4", "unknown key `module`", "did you mean `modules`?"),
    "no name": changed("name: x\n", "", "bad.yaml", "`name`"),
    "a name that is a path": changed("name: x", "name: a/b", "bad.yaml:1", "`name`"),
    "a name that climbs": changed("name: x", "name: ..", "bad.yaml:1", "`name`"),
    "an empty name": changed("name: x", "name: ''", "bad.yaml:1", "`name`"),
    "a name that is a list": changed("name: x", "name: [x]", "bad.yaml:1", "`name`"),
    "no base": changed("base: lab/s0\n", "", "bad.yaml", "`bases`"),
    "an empty base": changed("base: lab/s0", "base: []", "bad.yaml:", "`bases` is empty"),
    "a base twice": changed("base: lab/s0", "base: [lab/s0, lab/s0]", "bad.yaml:", "`bases` names one twice"),
    "base and bases": changed("base: lab/s0", "base: a\nbases: [b]", "bad.yaml:2", "say the same"),
    "a base that climbs": changed("base: lab/s0", "base: lab/../../../etc", "lab/../../../etc", code=3),
    "a base nowhere": changed("base: lab/s0", "base: ./none", "no base at `./none`", code=3),
    "a base that is a file": changed("base: lab/s0", "base: ./bad.yaml", "no base at", code=3),
    "no shipped base": changed("base: lab/s0", "base: lab/zz", "no shipped base `lab/zz`", code=3),
    "a seed twice": changed("train:", "seeds: [1, 1]\ntrain:", "bad.yaml:", "`seeds` names one twice"),
    "a seed in words": changed("train:", "seeds: [one]\ntrain:", "bad.yaml:3", "seeds"),
    "a negative seed": changed("train:", "seeds: [-1]\ntrain:", "bad.yaml:3", "seeds"),
    "seeds as a range": changed("train:", "seeds: 1..3\ntrain:", "bad.yaml:3", "seeds"),
    "a language of no task": changed("train:", "languages: [xx]\ntrain:", "bad.yaml:3", "`xx`"),
    "languages as a mapping": changed("train:", "languages: {a: b}\ntrain:", "bad.yaml:3", "`all` or a list of codes"),
    "data that is not there": changed("train:", "data: ./none\ntrain:", "bad.yaml:3", "no folder `none`", code=3),
    "data as a list": changed("train:", "data: [a]\ntrain:", "bad.yaml:3", "data"),
    # training settings
    "steps below one": changed("{steps: 1}", "{steps: 0}", "bad.yaml:3", "steps", "greater than 0"),
    "steps in words": changed("{steps: 1}", "{steps: many}", "bad.yaml:3", "steps"),
    "half a step": changed("{steps: 1}", "{steps: 1.5}", "bad.yaml:3", "steps"),
    "a settings key": changed("{steps: 1}", "{stepz: 1}", "bad.yaml:3", "unknown key `stepz`", "mean `steps`?"),
    "a learning rate below zero": changed("{steps: 1}", "{learning_rate: -1e-4}", "bad.yaml:3", "learning_rate"),
    "a learning rate of infinity": changed("{steps: 1}", "{learning_rate: .inf}", "bad.yaml:3", "learning_rate"),
    "a learning rate that is no number": changed("{steps: 1}", "{learning_rate: .nan}", "bad.yaml:3", "learning_rate"),
    "warm-up over one": changed("{steps: 1}", "{warmup: 1.5}", "bad.yaml:3", "warmup"),
    "dropout of one": changed("{steps: 1}", "{dropout: 1.0}", "bad.yaml:3", "dropout"),
    "a batch of nothing": changed("{steps: 1}", "{batch: 0}", "bad.yaml:3", "batch"),
    "precision of fp8": changed("{steps: 1}", "{precision: fp8}", "bad.yaml:3", "precision"),
    "packed in words": changed("{steps: 1}", "{packed: sometimes}", "bad.yaml:3", "packed"),
    "patience without scores": changed("{steps: 1}", "{patience: 2}", "bad.yaml:3", "evaluate"),
    "best without scores": changed("{steps: 1}", "{select: best}", "bad.yaml:3", "evaluate"),
    "train as a list": changed("{steps: 1}", "[steps, 1]", "bad.yaml:3", "train"),
    "an unknown mix": changed("{steps: 1}", "{mix: {how: random}}", "bad.yaml:3", "mix"),
    "a mix of temperature zero": changed("{steps: 1}", "{mix: {temperature: 0}}", "bad.yaml:3", "temperature"),
    # modules
    "a module that climbs": changed("nli: {train", "..: {train", "bad.yaml:5", ".."),
    "a module called base": changed("nli: {train", "base: {train", "bad.yaml:5", "base"),
    "a module of nothing": changed("{train: [t-nli]}", "{}", "bad.yaml:5", "one of train, merge, use"),
    "a module two ways": changed("{train: [t-nli]}", "{train: t-nli, merge: [a]}", "bad.yaml:5", "train and merge"),
    "a module as a word": changed("{train: [t-nli]}", "t-nli", "bad.yaml:5", "nli"),
    "modules as a list": changed("modules:\n  nli: {train: [t-nli]}", "modules: [nli]", "bad.yaml:4", "modules"),
    "an unknown task": changed("[t-nli]", "[t-nly]", "bad.yaml:5", "no task `t-nly`", "did you mean `t-nli`"),
    "a task of bitext": changed("[t-nli]", "[t-bucc]", "bad.yaml:5", "bitext"),
    "a task in no language": changed("[t-nli]", "[t-nli/zz]", "bad.yaml:5", "no language `zz`"),
    "a task twice": changed("[t-nli]", "[t-nli, t-nli]", "bad.yaml:5", "trained on twice"),
    "a task that climbs": changed("[t-nli]", "[../t-nli]", "bad.yaml:5", "no task"),
    "a task as a number": changed("[t-nli]", "[3]", "bad.yaml:5"),
    "a limit below one": changed("[t-nli]}", "[t-nli], limit: 0}", "bad.yaml:5", "limit"),
    "an unknown method": changed("[t-nli]}", "[t-nli], method: lorra}", "bad.yaml:5", "did you mean `lora`?"),
    "a method's parameter": changed("[t-nli]}", "[t-nli], method: {name: lora, rank: 4}}", "bad.yaml:5", "`rank`"),
    "a rank of zero": changed("[t-nli]}", "[t-nli], method: {name: lora, r: 0}}", "bad.yaml:5", "r"),
    "a rank in words": changed("[t-nli]}", "[t-nli], method: {name: lora, r: big}}", "bad.yaml:5", "r"),
    "an unknown site": changed("[t-nli]}", "[t-nli], method: {name: lora, sites: [kee]}}", "bad.yaml:5", "`kee`"),
    "a layer below zero": changed("[t-nli]}", "[t-nli], method: {name: lora, layers: [-1]}}", "bad.yaml:5", "layer"),
    "continue from nothing": changed("[t-nli]}", "[t-nli], continue: nlx}", "bad.yaml:5", "`nlx`"),
    "continue from itself": changed("[t-nli]}", "[t-nli], continue: nli}", "bad.yaml:5", "nli -> nli"),
    "continue and on": changed("[t-nli]}", "[t-nli], continue: a, on: b}", "bad.yaml:5", "together"),
    "a merge of one that is not there": changed("{train: [t-nli]}", "{merge: [zz]}", "bad.yaml:5", "`zz`"),
    "a merge of itself": changed("{train: [t-nli]}", "{merge: [nli]}", "bad.yaml:5", "nli -> nli"),
    "an unknown merge": changed("{train: [t-nli]}", "{merge: [a, b], how: soup}", "bad.yaml:5", "soup"),
    "use of nothing": changed("{train: [t-nli]}", "{use: zz}", "bad.yaml:5", "`zz`"),
    "use of a path": changed("{train: [t-nli]}", "{use: ../../zz}", "bad.yaml:5", "zz"),
    "settings beside use": changed("{train: [t-nli]}", "{use: zz, settings: {steps: 2}}", "bad.yaml:5", "no meaning"),
    "wrong settings of a module": changed("[t-nli]}", "[t-nli], settings: {stepz: 2}}", "bad.yaml:5", "`stepz`"),
    # compositions
    "an open bracket": changed("none: {}", "none: {on: 'stack(nli'}", "bad.yaml:7", "column"),
    "an unknown operator": changed("none: {}", "none: {on: 'stak(nli)'}", "bad.yaml:7", "did you mean `stack`?"),
    "an unknown leaf": changed("none: {}", "none: {on: nlx}", "bad.yaml:7", "did you mean `nli`?"),
    "an unknown slot": changed("none: {}", "none: {on: 'stack({script}, nli)'}", "bad.yaml:7", "{language}"),
    "a weight of infinity": changed("none: {}", "none: {on: '1e999*nli'}", "bad.yaml:7", "expected a number"),
    "a module on itself": changed("none: {}", "none: {on: 'stack(nli, nli)'}", "bad.yaml:7", "count twice"),
    "a fusion of one weight": changed("none: {}", "none: {on: 'fuse(2*nli, nli)'}", "bad.yaml:7"),
    "an unknown fusion": changed("none: {}", "none: {on: 'fuse(nli, nli, how=mean)'}", "bad.yaml:7", "mean"),
    "brackets without end": changed("none: {}", f"none: {{on: '{'stack(' * 3000}nli'}}", "bad.yaml:7", "nested"),
    "a composition as a number": changed("none: {}", "none: {on: 3}", "bad.yaml:7"),
    "a mapping of two operators": changed("none: {}", "none: {on: {stack: [nli], fuse: [nli]}}", "bad.yaml:7"),
    # arms, targets, what is measured
    "an arm's target": changed("none: {}", "none: {targets: [zz]}", "bad.yaml:7", "unknown target `zz`"),
    "an arm's baseline": changed("none: {}", "none: {baseline: zz}", "bad.yaml:7", "zz"),
    "an arm as a word": changed("none: {}", "none: nli", "bad.yaml:7"),
    "a target without a task": changed("{task: t-nli, limit: 10}", "{limit: 10}", "bad.yaml:9", "task"),
    "a target of no task": changed("task: t-nli,", "task: zz,", "bad.yaml:9", "no task `zz`"),
    "a target without arms": changed("arms:\n  none: {}\n", "", "bad.yaml", "targets without arms"),
    "a target's language": changed("limit: 10", "languages: [zz]", "bad.yaml:9", "no language `zz`"),
    "a target's split": changed("limit: 10", "split: tset", "bad.yaml:9", "no split `tset`", code=3),
    "a target's settings": changed("limit: 10", "train: {epoch: 2}", "bad.yaml:9", "did you mean `epochs`?"),
    "retrieval of no bitext": recipe(WHOLE + "retrieve: {tasks: t-nli}\n", "bad.yaml:10", "not searched"),
    "retrieval by nothing": recipe(WHOLE + "retrieve: {tasks: t-bucc, modules: [zz]}\n", "bad.yaml:10", "`zz`"),
    "a layer in words": recipe(WHOLE + "retrieve: {tasks: t-bucc, layers: top}\n", "bad.yaml:10", "layers"),
    "an unknown margin": recipe(WHOLE + "retrieve: {tasks: t-bucc, margin: cosine}\n", "bad.yaml:10", "margin"),
    "a report's baseline": recipe(WHOLE + "report: {baseline: nothing}\n", "bad.yaml:10", "nothing"),
    "a slot for no one": recipe(WHOLE + "slots: {script: {en: nli}}\n", "bad.yaml:10", "slots"),
    "an override of no task": recipe(WHOLE + "tasks: {zz: {metric: f1}}\n", "bad.yaml:10", "zz"),
    "an override's key": recipe(WHOLE + "tasks: {t-nli: {metrik: f1}}\n", "metrik"),
    # vars, matrix, extends
    "an unknown variable": changed("limit: 10", "limit: '${n}'", "bad.yaml:9", "unknown variable `n`"),
    "variables in a ring": recipe(WHOLE + "vars: {a: '${b}', b: '${a}'}\n", "bad.yaml:10", "refers to itself"),
    "variables as a list": recipe(WHOLE + "vars: [a]\n", "bad.yaml:10", "`vars` is a mapping"),
    "a matrix of words": changed("[t-nli]}", "[t-nli], matrix: {r: 4}}", "bad.yaml:5", "lists"),
    "a matrix without names": changed("[t-nli]}", "[t-nli], matrix: {r: [4, 8]}}", "bad.yaml:5", "two entries"),
    "a matrix without end": changed(
        "nli: {train: [t-nli]}",
        "'m${a}${b}${c}${d}${e}${f}': {train: t-nli, matrix: {"
        + ", ".join(f"{k}: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]" for k in "abcdef")
        + "}}",
        "bad.yaml:5",
        "combinations",
    ),
    "extends of nothing": recipe("extends: zz.yaml\n" + WHOLE, "bad.yaml:1", "no such file"),
    "extends in a ring": recipe("extends: other.yaml\n" + WHOLE, "in a circle", other="extends: bad.yaml\n"),
    "extends of a number": recipe("extends: 3\n" + WHOLE, "bad.yaml:1", "path of a recipe"),
    "extends of a broken one": recipe("extends: other.yaml\n" + WHOLE, "other.yaml:1", "unknown", other="foo: 1\n"),
}  # fmt: skip
