"""Changes what a decoder accepts, so that a fuzzer gets behind its first checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.fuzz.choices import ChoicesOfBytes

_PIECES: Final = [
    *(b"", b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x80", b"\xed\xa0\x80", b"\\ud800", b"\r\n", b" ", b"\t", b","),
    *(b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"Infinity", b"9" * 30, b"0.1", b'""', b"[]", b"{}", b"[[", b"{"),
    *(b'"', b"'", b"\\", b":", b";", b"=", b"/", b"..", b"*", b"%", b"$", b"(", b")", b"[", b"]", b"-", b"+", b"@", b"#"),
    *("é".encode(), "\u2028".encode(), b"2030-02-30T25:61:61Z", b"[" * 2000, b"a" * 5000, b"((" * 500, b'{"a":' * 500),
]  # fmt: skip


def changed(sample: bytes, choices: ChoicesOfBytes) -> bytes:
    """Return a sample with some pieces removed, put in, repeated or exchanged."""
    found = sample
    while not choices.is_used_up:
        at = choices.randrange(len(found) + 1)
        size = choices.choice([0, 1, 2, 4, 8, 16])
        match choices.randrange(4):
            case 0:
                piece = b""
            case 1:
                piece = found[at : at + size] * 2
            case 2:
                piece = bytes([choices.randrange(256)])
            case _:
                piece = choices.choice(_PIECES)
        found = found[:at] + piece + found[at + size :]
        if choices.random() < 0.4:
            break
    return found
