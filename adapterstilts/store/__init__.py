"""The store: content-addressed artifacts on disk. Nothing else is state.

    artifacts/<kind>/<hash[:2]>/<hash>/   manifest.json and the stage's files, seen whole or not at all
    work/<hash>/   work/shared/           checkpoints of a stage that is not done; what stages of a run leave each other
    logs/<hash>.log   locks/<hash>.lock   names/<name>.json   runs/<recipe>/<id>/   cache/

A hash names what a stage was told and what it was given, so an artifact is never changed after it is written.
"""

from adapterstilts.store.artifacts import SHARED, Damage, Removed, Store
from adapterstilts.store.files import beside, sha256, write_text
from adapterstilts.store.names import Names

__all__ = ["SHARED", "Damage", "Names", "Removed", "Store", "beside", "sha256", "write_text"]
