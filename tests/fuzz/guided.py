"""Fuzzes the decoders of one family, guided by coverage: ``python -m tests.fuzz.guided FAMILY CORPUS [OPTION...]``.

Options are libFuzzer's. Needs atheris, which ``make fuzz`` installs. The first byte of an input chooses the decoder. Ends with an
exit code other than 0 and the input in a file when a decoder does anything but read it or refuse it by name.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris


def main() -> None:
    """Run as the command line asks; does not return."""
    family, corpus, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["agent"], enable_loader_override=False):
        from tests.fuzz.decoders import of_family  # noqa: PLC0415 - what is imported here is instrumented
    decoders = of_family(family)
    directory = Path(corpus)
    directory.mkdir(parents=True, exist_ok=True)
    for number, decoder in enumerate(decoders):
        for index, sample in enumerate(decoder.samples):
            (directory / f"sample-{number}-{index}").write_bytes(bytes([number]) + sample)

    def once(data: bytes) -> None:
        if data:
            decoder = decoders[data[0] % len(decoders)]
            try:
                decoder.try_(data[1:])
            except BaseException:
                sys.stderr.write(f"\n== {decoder.name}: {data[1:]!r}\n")
                raise

    atheris.Setup([sys.argv[0], *options, corpus], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
