"""TensorFlow checkpoints (format "tensor bundle") read without TensorFlow.

A bundle is an index, a table of strings in LevelDB's format (tensorflow/core/lib/io/table: blocks of entries whose keys
share a prefix with the one before, and a footer), whose values are BundleEntryProto messages
(tensorflow/core/protobuf/tensor_bundle.proto), and the tensors' bytes in a file beside it. Only what TensorFlow writes
by default is read: uncompressed blocks, one data file, little-endian float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mer_ray.errors import ModelError

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48  # bytes
_FLOAT32 = 1  # in tensorflow/core/framework/types.proto


def tensors(index: bytes, data: bytes, source: str) -> dict[str, np.ndarray]:
    """The float32 tensors of a checkpoint by name, views of ``data``.

    Args:
        index: The content of the ``.index`` file.
        data: The content of the ``.data-00000-of-00001`` file.
        source: What error messages call the checkpoint.

    Raises:
        ModelError: The checkpoint is damaged, or not in the form above.
    """
    result = {}
    try:
        for key, value in _table(index):
            fields: dict[int, Any] = dict(_message(value))
            if not key or fields.get(1) != _FLOAT32:
                continue  # the header, and integers such as the step
            dims: list[Any] = [dict(_message(dim)).get(1, 0) for n, dim in _message(fields.get(2, b"")) if n == 2]
            offset, size = fields.get(4, 0), fields.get(5, 0)
            array = np.frombuffer(data[offset : offset + size], "<f4")
            result[key.decode()] = array.reshape(dims)
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise ModelError(f"{source} cannot be read as a TensorFlow checkpoint ({error})") from error
    return result


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a table of strings, in order."""
    footer = content[-_FOOTER:]
    if len(footer) < _FOOTER or int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise ValueError("no footer")
    _, at = _varint(footer, 0)  # the metaindex block: offset and size
    _, at = _varint(footer, at)
    start, at = _varint(footer, at)
    size, _ = _varint(footer, at)
    for _key, handle in _block(content, start, size):
        first, at = _varint(handle, 0)
        yield from _block(content, first, _varint(handle, at)[0])


def _block(content: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if content[start + size] != 0:
        raise ValueError("a compressed block")
    block = content[start : start + size]
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")  # restart points and their number
    key, at = b"", 0
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + unshared]
        at += unshared
        yield key, block[at : at + length]
        at += length


def _message(content: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of a protocol buffer: int for varints and fixed numbers, bytes for the rest."""
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(content, at)
            yield tag >> 3, value
        elif kind == 2:
            length, at = _varint(content, at)
            yield tag >> 3, content[at : at + length]
            at += length
        elif kind in (1, 5):
            width = 8 if kind == 1 else 4
            yield tag >> 3, int.from_bytes(content[at : at + width], "little")
            at += width
        else:
            raise ValueError(f"wire type {kind}")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer at ``at``, and where the next field starts."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        shift += 7
        at += 1
        if byte < 128:
            return value, at
