"""The binary tensor data extension of the Open Inference Protocol: values as bytes behind the JSON of a body.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import struct
from collections.abc import Sequence

from serving.errors import BadRequestError

EXTENSION = "binary_tensor_data"
"""The name of the extension in the metadata of the server."""
JSON_LENGTH_HEADER = "Inference-Header-Content-Length"
"""How many bytes of a body are JSON; those behind them are the binary data of its tensors, in their order."""
LENGTH = struct.Struct("<I")
"""Before each value of datatype BYTES: its number of bytes."""


def read_texts(data: bytes, where: str) -> list[str]:
    """Read the values of a tensor of datatype BYTES as texts in UTF-8.

    Raises:
        BadRequestError: a value is cut off or not UTF-8.
    """
    texts: list[str] = []
    position = 0
    while position < len(data):
        start = position + LENGTH.size
        position = start + (LENGTH.unpack_from(data, position)[0] if start <= len(data) else LENGTH.size)
        if position > len(data):
            raise BadRequestError(
                f"{where}: value {len(texts)} is cut off; expected 4 bytes with its length, little-endian, and its bytes"
            )
        try:
            texts.append(data[start:position].decode())
        except UnicodeDecodeError as error:
            raise BadRequestError(f"{where}: value {len(texts)} is not UTF-8 ({error.reason})") from error
    return texts


def write_texts(texts: Sequence[str]) -> bytes:
    """Write texts as the values of a tensor of datatype BYTES."""
    encoded = [text.encode() for text in texts]
    return b"".join(LENGTH.pack(len(value)) + value for value in encoded)


def write_floats(values: Sequence[float]) -> bytes:
    """Write the values of a tensor of datatype FP64."""
    return struct.pack(f"<{len(values)}d", *values)
