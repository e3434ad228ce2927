"""Vectors as a file that other tools read: .npy, or .parquet with the sentences beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterstilts.api.places import PathLike
from adapterstilts.api.texts import whole_file
from adapterstilts.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 8192  # rows; a memory-mapped array never lies in memory whole


def check_vectors_file(path: PathLike) -> None:
    """Before anything is embedded.

    Raises:
        DataError: another ending than .npy or .parquet, or no such folder.
    """
    if Path(path).suffix not in _WRITERS:
        fix = f"--out {Path(path).stem}.npy or --out {Path(path).stem}.parquet"
        raise DataError(f"`{path}` is no name for vectors", why="its ending says how they are written", fix=fix)
    if not Path(path).parent.is_dir():
        raise DataError(f"no folder `{Path(path).parent}`", why=f"{Path(path).name} is written into it")


def save_vectors(path: PathLike, texts: Sequence[str], vectors: NDArray[Any]) -> None:
    """Write [sentences, d] vectors, in their own type, as the ending says; the file is there whole or not at all.

    ``.npy`` is the array, for ``numpy.load``. ``.parquet`` has the columns ``sentence`` and ``embedding``, a list of
    fixed size, a row for each sentence.

    Raises:
        DataError: another ending, or no such folder.
    """
    check_vectors_file(path)
    with whole_file(path) as temporary:
        _WRITERS[Path(path).suffix](temporary, texts, vectors)


def _npy(path: Path, texts: Sequence[str], vectors: NDArray[Any]) -> None:
    import numpy as np

    made = np.lib.format.open_memmap(path, mode="w+", dtype=vectors.dtype, shape=vectors.shape)
    for start in range(0, len(vectors), BLOCK):
        made[start : start + BLOCK] = vectors[start : start + BLOCK]
    made.flush()


def _parquet(path: Path, texts: Sequence[str], vectors: NDArray[Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    width = vectors.shape[1]
    kind = pa.list_(pa.from_numpy_dtype(vectors.dtype), width)
    schema = pa.schema([("sentence", pa.string()), ("embedding", kind)])
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, len(vectors), BLOCK):
            block = vectors[start : start + BLOCK]
            rows = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), width)
            writer.write_table(pa.table([pa.array(texts[start : start + BLOCK], pa.string()), rows], schema))


_WRITERS: Mapping[str, Callable[[Path, Sequence[str], NDArray[Any]], None]] = {".npy": _npy, ".parquet": _parquet}
