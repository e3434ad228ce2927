"""The bases of a recipe, identified by the bytes of their weights and tokenizers."""

from __future__ import annotations

from adapterstilts.data.hashes import FileHashes
from adapterstilts.encoder.reference import fingerprint, locate
from adapterstilts.recipe.schema import Recipe
from adapterstilts.stages.specs import BaseRef
from adapterstilts.store import Store


def base_refs(recipe: Recipe, store: Store) -> list[BaseRef]:
    """Every base with its fingerprints; a Hub repository is named by id and revision, without a network.

    Raises:
        DataError: a base that is not there.
    """
    hashes = FileHashes(store.fingerprints)
    found = []
    for ref in recipe.bases:
        weights, tokenizer = fingerprint(locate(ref), hashes)
        found.append(BaseRef(ref=ref, fingerprint=weights, tokenizer=tokenizer))
    hashes.save()
    return found
