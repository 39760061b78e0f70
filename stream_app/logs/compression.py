"""Files as plain bytes, whatever they are compressed with: gzip or Zstandard, told by their first bytes.

A stream that ends early raises EOFError after the bytes before it, so that a file that was cut off is not taken for a short one.
"""

from __future__ import annotations

import gzip
import io
import zlib
from typing import Any, BinaryIO, Final, cast

from stream_app.errors import ConfigError

__all__ = ["DAMAGE", "CompressedError", "plain_bytes"]

_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_BLOCK: Final = 1 << 17


class CompressedError(Exception):
    """A Zstandard stream is damaged."""


# What reading may raise for a damaged file.
DAMAGE: Final = (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError, CompressedError)


def plain_bytes(raw: BinaryIO) -> BinaryIO:
    """Return a file that reads what `raw`, which stands at its beginning, holds uncompressed.

    Raises:
        ConfigError: It is Zstandard, and the package for that is not installed.
    """
    magic = raw.read(4)
    raw.seek(0)
    if magic.startswith(_GZIP_MAGIC):
        return cast("BinaryIO", gzip.GzipFile(fileobj=raw))
    if magic == _ZSTD_MAGIC:
        return cast("BinaryIO", io.BufferedReader(_Zstandard(raw), _BLOCK))
    return raw


class _Zstandard(io.RawIOBase):
    """Reads a Zstandard file of one or more frames."""

    def __init__(self, raw: BinaryIO) -> None:
        try:
            import zstandard
        except ImportError as err:
            raise ConfigError(
                "the file is compressed with Zstandard, and reading it needs a package: `pip install 'millrace[data]'`"
            ) from err
        self._raw = raw
        self._zstandard: Any = zstandard
        self._frame: Any = None
        self._plain = b""

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 (any writable buffer)
        """Fill the buffer with the next bytes; 0 at the end."""
        while not self._plain:
            block = self._raw.read(_BLOCK)
            if not block:
                if self._frame is not None:
                    raise EOFError("the Zstandard stream ends before its end mark")
                return 0
            self._plain = self._uncompressed(block)
        count = min(len(buffer), len(self._plain))
        buffer[:count] = self._plain[:count]
        self._plain = self._plain[count:]
        return count

    def _uncompressed(self, block: bytes) -> bytes:
        parts = []
        while block:
            if self._frame is None:
                self._frame = self._zstandard.ZstdDecompressor().decompressobj()
            try:
                parts.append(self._frame.decompress(block))
            except self._zstandard.ZstdError as err:
                raise CompressedError(str(err)) from err
            block = b""
            if self._frame.eof:
                block, self._frame = self._frame.unused_data, None
        return b"".join(parts)
