"""Paths with options: what is written is read, and what is no option is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omics_transformers.data_scripts.source_text import path_and_options

words = st.text("abc/._-=", min_size=1, max_size=8)


@given(words, st.dictionaries(st.sampled_from(["name", "tile"]), words))
def test_what_is_written_is_read(path: str, options: dict[str, str]) -> None:
    text = ":".join([path, *(f"{key}={value}" for key, value in options.items())])
    assert path_and_options(text, ("name", "tile"), expected="PATH") == (path, options)


@pytest.mark.parametrize("text", ["a:nmae=x", "a:name", "a:name=", "a:name=x:name=y", "a:", ":name=x", ""])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"; expected PATH\[:name=NAME\]"):
        path_and_options(text, ("name",), expected="PATH[:name=NAME]")
