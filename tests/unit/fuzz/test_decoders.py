"""Whatever a decoder gets, it reads it or refuses it by name; what it should accept, it accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.changed import changed
from tests.fuzz.choices import ChoicesOfBytes
from tests.fuzz.decoders import DECODERS

if TYPE_CHECKING:
    from tests.fuzz.decoder import Decoder


def test_names_are_unique() -> None:
    assert len({one.name for one in DECODERS}) == len(DECODERS)


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda one: one.name)
def test_samples_are_read(decoder: Decoder) -> None:
    for sample in decoder.samples:
        decoder.read(sample)


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda one: one.name)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_anything_is_read_or_refused(decoder: Decoder, data: st.DataObject) -> None:
    choices = ChoicesOfBytes(data.draw(st.binary(max_size=60)))
    decoder.try_(changed(data.draw(st.sampled_from(decoder.samples)), choices))
    decoder.try_(choices.rest())
