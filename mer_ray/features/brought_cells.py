"""Matrices in the cells of an Arrow column, however they are laid out."""

from __future__ import annotations

import json
import math
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.errors import TrackError

EXTENSION = b"ARROW:extension:name", b"ARROW:extension:metadata"


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def layout(column: pa.Field) -> Literal["matrix", "flat", "shaped"] | None:
    """How a cell holds its matrix: a list of vectors, one list of numbers, or such a list and its shape."""
    kind = column.type.storage_type if isinstance(column.type, pa.BaseExtensionType) else column.type
    if pa.types.is_struct(kind) and {"data", "shape"} <= {kind.field(i).name for i in range(kind.num_fields)}:
        data = kind.field("data").type
        return "shaped" if _is_list(data) and _is_number(data.value_type) else None
    if not _is_list(kind):
        return None
    if _is_number(kind.value_type):
        return "flat" if _tensor_shape(column) != [] else None
    return "matrix" if _is_list(kind.value_type) and _is_number(kind.value_type.value_type) else None


def _tensor_shape(column: pa.Field) -> list[int] | None:
    """The shape that a tensor's type says, whether the type is known here or not. None: it is a list. []: unclear."""
    shape = getattr(column.type, "shape", None)
    if shape is None and EXTENSION[0] in (column.metadata or {}):
        try:
            said = json.loads(column.metadata[EXTENSION[1]])
            shape = said["shape"] if isinstance(said, dict) else list(said)
        except (ValueError, KeyError, TypeError):
            shape = []
    return None if shape is None else [int(n) for n in shape]


def matrix(cells: pa.Array, row: int, column: pa.Field) -> np.ndarray:
    """(n, F) of a cell, float32. Raises TrackError: empty, bad_frames."""
    cells = cells.storage if isinstance(cells, pa.ExtensionArray) else cells
    cell, form = cells.slice(row, 1), layout(column)
    if cell.null_count:
        raise TrackError("empty", "no frames")
    shape: list[int] | None
    if form == "matrix":
        vectors = cell.flatten()
        widths = pc.unique(pc.list_value_length(vectors)).to_pylist()
        if len(widths) > 1 or None in widths:
            raise TrackError("bad_frames", f"vectors of {' and '.join(str(w) for w in widths[:2])} numbers")
        values, shape = vectors.flatten(), [len(vectors), *(widths or [0])]
    elif form == "shaped":
        values, shape = cell.field("data").flatten(), cell.field("shape")[0].as_py()
    else:
        values = cell.flatten()
        shape = _tensor_shape(column) or [1, len(values)]
    shape = [1, *shape] if shape is not None and len(shape) == 1 else shape
    if shape is None or len(shape) != 2 or math.prod(shape) != len(values):
        raise TrackError("bad_frames", f"{len(values)} numbers in a tensor of shape {shape}, not n x F")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is reported as that
        return np.asarray(values.to_numpy(zero_copy_only=False)).astype(np.float32).reshape(shape)


def frames(cells: pa.Array, row: int, column: pa.Field, n_dims: int) -> np.ndarray:
    """As `matrix`, of the right width, and finite. Raises TrackError: not_finite too."""
    found = matrix(cells, row, column)
    if not found.size:
        raise TrackError("empty", "no frames")
    if found.shape[1] != n_dims:
        raise TrackError("bad_frames", f"frames of {found.shape[1]} numbers; the first row's have {n_dims}")
    if not np.isfinite(found).all():
        raise TrackError("not_finite", "NaN, null or infinite numbers")
    return found
