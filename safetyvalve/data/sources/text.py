"""Bytes to text, in the encoding they were written in: never a guess that could garble them."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from safetyvalve.errors import DataError, UsageError

__all__ = ["decode", "mixed_rows"]

_MARKS = [
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with BOM"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
]


def decode(raw: bytes, file: Path, encoding: str = "auto") -> tuple[str, str]:
    """The text and the name of its encoding.

    ``auto`` reads what a byte-order mark says, else UTF-8, else cp932 (Shift_JIS as Windows writes it) where the
    text proves itself Japanese; anything else is refused.

    Raises:
        DataError: bytes that the encoding does not have, or a file that is not text.
        UsageError: an encoding that Python does not know.
    """
    if encoding != "auto":
        return _strictly(raw, file, encoding), encoding
    for mark, codec, name in _MARKS:
        if raw.startswith(mark):
            return _strictly(raw, file, codec), name
    try:
        text, name = raw.decode(), "UTF-8"
    except UnicodeDecodeError as error:
        japanese = _japanese(raw)
        if japanese is None:
            raise _refusal(raw, file, error) from None
        text, name = japanese, "cp932"
    if "\0" in text:
        raise DataError(
            "has a NUL byte, so it is not a text file, or it is UTF-16 without a byte-order mark. Save it as UTF-8, or "
            "name the encoding with --encoding utf-16-le.",
            file=file,
            row=text.count("\n", 0, text.index("\0")) + 1,
        )
    return text, name


def _strictly(raw: bytes, file: Path, codec: str) -> str:
    try:
        return raw.decode(codec).removeprefix("\ufeff")
    except LookupError:
        raise UsageError(
            f"encoding is '{codec}', which is unknown; accepted: auto, utf-8, cp932, utf-16, euc_jp and the other text "
            "encodings of Python."
        ) from None
    except UnicodeDecodeError as error:
        raise _refusal(raw, file, error) from None


def _japanese(raw: bytes) -> str | None:
    """The text if it is cp932 beyond doubt.

    Many encodings decode as cp932 without an error, into wrong characters. Kana tell: their first byte is 0x82 or
    0x83, which the encodings of Europe and the others of East Asia hardly use in running text, and Japanese prose is
    a third kana or more. Damaged UTF-8 can decode into kana as well, but then most of it is valid UTF-8.
    """
    try:
        text = raw.decode("cp932")
    except UnicodeDecodeError:
        return None
    if mixed_rows(raw) or re.search(r"[\x80\xa0\uf8f0-\uf8f3]", text):  # bytes that Windows leaves without a character
        return None
    beyond_ascii = _ASCII.sub("", text)
    kana = len(re.findall(r"[ぁ-んァ-ヶ]", beyond_ascii))
    as_utf8 = _ASCII.sub("", raw.decode(errors="replace"))
    return text if kana >= max(4, 0.2 * len(beyond_ascii)) and 2 * as_utf8.count("\ufffd") > len(as_utf8) else None


_ASCII = re.compile(r"[\x00-\x7f]+")


def _refusal(raw: bytes, file: Path, error: UnicodeDecodeError) -> DataError:
    if mixed := mixed_rows(raw):
        return DataError(
            f"is UTF-8 in row {mixed[0]} and cp932 (Shift_JIS) in row {mixed[1]}: parts of two encodings were "
            "joined. One "
            "encoding is accepted: save each part as UTF-8 before joining them.",
            file=file,
            row=mixed[1],
        )
    found = raw[error.start : error.start + 1]
    name = "UTF-8" if error.encoding.lower() in ("utf-8", "utf-8-sig") else error.encoding
    return DataError(
        f"byte {error.start} is {found!r}, which is not {name}. Save the file as UTF-8, or name its encoding with "
        "--encoding, such as cp932 for Japanese Excel and Notepad.",
        file=file,
        row=raw.count(b"\n", 0, error.start) + 1,
    )


def mixed_rows(raw: bytes) -> tuple[int, int] | None:
    """The first line that is UTF-8 and the first that is cp932 and not UTF-8; None where a text is not of both.

    A line counts as UTF-8 if a character of three bytes that Japanese uses is in it; shorter ones occur in cp932 too,
    as half-width kana.
    """
    utf8 = cp932 = 0
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if line.isascii():
            continue
        if _decodes(line, "utf-8"):
            utf8 = utf8 or (number if _WIDE.search(line) else 0)
        elif _decodes(line, "cp932"):
            cp932 = cp932 or number
        else:
            return None
    return (utf8, cp932) if utf8 and cp932 else None


_WIDE = re.compile(rb"[\xe3-\xe9\xef][\x80-\xbf]{2}")


def _decodes(line: bytes, codec: str) -> bool:
    try:
        line.decode(codec)
    except UnicodeDecodeError:
        return False
    return True
