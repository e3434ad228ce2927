"""Expressions and trees: the round trip, and errors that say where."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterstilts.errors import RecipeError
from adapterstilts.modules.composition import (
    BASE,
    FUSE_HOWS,
    Fuse,
    Leaf,
    Merge,
    Slot,
    Stack,
    Tree,
    leaves,
    map_leaves,
    simplify,
)
from adapterstilts.modules.expressions import format_tree, from_plain, parse
from adapterstilts.settings import MERGES

NAMES = st.from_regex(r"[A-Za-z0-9_.+/-]{1,8}", fullmatch=True).filter(
    lambda name: name != "base" and not {"", ".", ".."} & set(name.split("/"))
)
WEIGHTS = st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.one_of(st.builds(Leaf, NAMES), st.builds(Leaf, NAMES, WEIGHTS), st.just(Slot()))


def _operators(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    some = st.lists(inner.filter(lambda tree: tree != BASE), min_size=1, max_size=3).map(tuple)
    merges = some.flatmap(
        lambda children: st.builds(
            Merge,
            st.just(children),
            st.sampled_from([None, *(how for how in MERGES if how != "search")]),
            st.none() | st.lists(WEIGHTS, min_size=len(children), max_size=len(children)).map(tuple),
        )
    )
    steps = st.tuples(st.just("steps"), st.integers(0, 99))
    searches = some.flatmap(
        lambda children: st.builds(Merge, st.just(children), st.just("search"), st.none(),
                                   st.tuples(steps, st.tuples(st.just("task"), st.just("lab-nli/en"))))
    )  # fmt: skip
    pruned = st.builds(lambda children, density: Merge(children, "ties", None, (("density", density), ("rank", 4))),
                       some, st.floats(0.01, 1.0))  # fmt: skip
    stacks = st.builds(Stack, st.lists(inner, max_size=3).map(tuple))
    return st.one_of(stacks, st.builds(Fuse, some, st.sampled_from(FUSE_HOWS)), merges, searches, pruned)


TREES = st.recursive(LEAVES, _operators, max_leaves=8)


@given(TREES)
@settings(deadline=None)
def test_the_round_trip_is_exact(tree: Tree) -> None:
    assert parse(format_tree(tree)) == tree


@given(st.one_of(st.text(), st.text(alphabet="abs tackfusemrg(){},*=.0123[]-", max_size=40)))
@settings(deadline=None, max_examples=400)
def test_any_text_parses_or_gives_a_recipe_error(text: str) -> None:
    try:
        tree = parse(text)
    except RecipeError:
        return
    assert parse(format_tree(tree)) == tree


@given(
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text(max_size=5), NAMES),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["stack", "fuse", "merge", "how", "weights", "x"]), inner, max_size=3)
        ),
        max_leaves=10,
    )
)
@settings(deadline=None)
def test_any_yaml_value_is_read_or_gives_a_recipe_error(value: object) -> None:
    try:
        tree = from_plain(value)
    except RecipeError:
        return
    assert parse(format_tree(tree)) == tree


def test_what_a_user_writes() -> None:
    tree = parse("stack({language}, fuse(a, b, how=weights), 0.5*c)")
    assert tree == Stack((Slot(), Fuse((Leaf("a"), Leaf("b")), "weights"), Leaf("c", 0.5)))
    assert parse(" base ") == BASE and format_tree(BASE) == "base"
    assert parse("merge(a, b, how=ties, weights=[1, -0.5])") == Merge((Leaf("a"), Leaf("b")), "ties", (1.0, -0.5))
    assert parse("mnli+xquad/v1.0") == Leaf("mnli+xquad/v1.0")
    assert parse("stack") == Leaf("stack")


def test_the_same_tree_from_a_mapping() -> None:
    plain = {"stack": [{"language": None}, {"fuse": ["a", "0.5*b"], "how": "weights"}, {"merge": ["c", "d"]}]}
    assert from_plain(plain) == parse("stack({language}, fuse(a, 0.5*b, how=weights), merge(c, d))")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fsue(a, b)", "did you mean `fuse`?"),
        ("stack(a, fuze(b))", "column 10"),
        ("stack(a", "expected `,`, found the end at column 8"),
        ("stack(a) b", "unexpected `b` after the expression"),
        ("fuse()", "fuse without modules"),
        ("fuse(a, how=ties)", "fuse has no how=`ties`"),
        ("stack(a, how=gate)", "stack cannot take `how=`"),
        ("{lang}", "unknown slot"),
        ("0.5*stack(a)", "only a module can be weighted"),
        ("x*a", "expected a number, found `x`"),
        ("merge(a, b, weights=[1])", "merge of 2 modules has 1 weights"),
        ("merge(a, b, rank=4)", "how=cat has no parameter `rank`"),
        ("merge(a, b, how=svd, rnak=4)", "merge cannot take `rnak=` here"),
        ("merge(a, b, how=ties, density=2)", "`density` of how=ties"),
        ("merge(a, b, how=search)", "`task` of how=search: Field required"),
        ("merge(a, b, how=search, task=t, steps=x)", "expected a number, found `x`"),
        ("fuse(a, base)", "`base` inside fuse"),
        ("stack(a, ?)", "unexpected `?` at column 10"),
        ("", "expected a module, found the end"),
        ("stack(" * 50 + "a" + ")" * 50, "nested deeper"),
    ],
)
def test_errors_say_where_and_what_was_meant(text: str, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(text)
    assert told in str(caught.value)


def test_leaves_are_listed_once_and_can_be_renamed() -> None:
    tree = parse("stack(a, fuse(b, a), 2.0*c)")
    assert leaves(tree) == ["a", "b", "c"]
    assert format_tree(tree, {"a": "x"}) == "stack(x, fuse(b, x), 2.0*c)"
    assert map_leaves(tree, lambda leaf: Leaf(leaf.name * 2, leaf.weight)) == parse("stack(aa, fuse(bb, aa), 2.0*cc)")


def test_simplify_keeps_the_meaning_and_drops_the_rest() -> None:
    assert simplify(parse("stack(stack(a, base), stack(b))")) == parse("stack(a, b)")
    assert simplify(parse("stack(a)")) == Leaf("a")
    assert simplify(parse("stack(base, base)")) == BASE
    assert simplify(parse("fuse(stack(a), b)")) == parse("fuse(a, b)")
