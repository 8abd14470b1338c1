"""Whether an ONNX file sends its reader to other files, found before any runtime opens it.

A tensor may name a file instead of holding its numbers (`external_data`), any path on the machine at that, and several
readers have followed it out of the model's folder (CVE-2022-25882, CVE-2024-5187). Our graphs hold their own numbers,
so every such tensor is refused: in initializers, sparse ones too, in attributes of nodes, in subgraphs and functions.
Only the wire format of protobuf is read here, over a memory map: nothing of a tensor's size is copied.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from essays.errors import GraphInvalid

# Message fields that hold, or lead to, tensors: by message, field number and the message there (onnx.proto).
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 64
_MAX_TAG = 0xFFFF_FFFF


def require_no_external_data(path: Path) -> None:
    """Raise GraphInvalid when the file names other files, or is no protobuf message."""
    if path.stat().st_size == 0:
        raise GraphInvalid(f"{path}: does not load: the file is empty; publish the model again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            external = _is_external(content, 0, len(content), "model", 0)
        except (ValueError, IndexError) as error:
            raise GraphInvalid(f"{path}: does not load: no ONNX file ({error}); publish the model again") from error
    if external:
        raise GraphInvalid(
            f"{path}: has external data: tensors that name other files, which are never read; export the model into"
            " one file and publish it again"
        )


def _is_external(content: mmap.mmap, start: int, end: int, message: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    inside = _MESSAGES[message]
    for number, value, begins, ends in _fields(content, start, end):
        if message == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)):
            return True
        if begins is not None and number in inside and _is_external(content, begins, ends, inside[number], depth + 1):
            return True
    return False


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int | None, int]]:
    """(number, value, start, end) of each field; a varint has a value and no start."""
    place = start
    while place < end:
        tag, place = _varint(content, place)
        if tag > _MAX_TAG:
            raise ValueError("a tag beyond 32 bits")
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, place = _varint(content, place)
            yield number, value, None, place
        elif kind == _BYTES:
            length, place = _varint(content, place)
            if length > end - place:
                raise ValueError("a field beyond its end")
            yield number, 0, place, place + length
            place += length
        elif kind in (_FIXED64, _FIXED32):
            place += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
    if place != end:
        raise ValueError("a field beyond its end")


def _varint(content: mmap.mmap, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number beyond 64 bits")
