"""Read files that are plain or compressed with gzip or Zstandard; the first bytes of a file decide.

A stream that ends early raises EOFError after its bytes, so a truncated file is not mistaken for a short one.
"""

from __future__ import annotations

import gzip
import io
import zlib
from typing import Any, BinaryIO, Final, cast

from stream_app.errors import ConfigError

_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_BLOCK: Final = 1 << 17


class CompressedError(Exception):
    """A Zstandard stream is damaged."""


# Errors that reading a damaged file raises.
DAMAGE: Final = (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError, CompressedError)


def decompressed(raw: BinaryIO) -> BinaryIO:
    """Return a file that reads the decompressed content of `raw`, which is positioned at its beginning.

    Raises:
        ConfigError: The content is Zstandard, and the package `zstandard` is not installed; or `raw` is a pipe.
    """
    if not raw.seekable():
        raise ConfigError(f"{raw.name} is a pipe, and a log is read more than once; write it to a file, and name that")
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
        self._pending = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 (any writable buffer)
        """Fill the buffer with the next bytes; 0 at the end."""
        while not self._pending:
            block = self._raw.read(_BLOCK)
            if not block:
                if self._frame is not None:
                    raise EOFError("the Zstandard stream ends before its end mark")
                return 0
            self._pending = self._decompress(block)
        count = min(len(buffer), len(self._pending))
        buffer[:count] = self._pending[:count]
        self._pending = self._pending[count:]
        return count

    def _decompress(self, block: bytes) -> bytes:
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
