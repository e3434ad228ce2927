"""The embedded world: a small family of invented languages with labelled tasks and raw text.

Pure generation from seeds; it imports nothing else of this package. Two encoders pretrained on
its raw text lie in `bases/`.
"""

from .bitext import bitext
from .languages import LANGUAGES, Language, distance
from .tasks import TASKS, LabTask, generate

# Part of the cache hashes: raise it on any change of generated text.
WORLD_VERSION = "1"

__all__ = [
    "LANGUAGES",
    "TASKS",
    "WORLD_VERSION",
    "LabTask",
    "Language",
    "bitext",
    "distance",
    "generate",
]
