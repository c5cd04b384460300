"""A continuation is cut into tokens as generation would see it, by every family of tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from equipoise.data.errors import DataError
from equipoise.data.rendering.tokens import Codec, load_tokenizer

Maker = Callable[..., Any]
LOSSLESS = ("byte-level", "byte-level with prefix space", "prepend BPE")
TEXTS = ["yes", " yes", "  yes", "\nyes", "dragon songs", "7", ": no", "é", "\n\n", "a", "Once upon"]


@pytest.fixture(scope="module")
def codecs(makers: dict[str, Maker]) -> dict[str, Codec]:
    return {name: Codec(make()) for name, make in makers.items()}


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_continuation_decodes_to_its_own_text_without_a_dummy_space(
    name: str, text: str, codecs: dict[str, Codec]
) -> None:
    codec = codecs[name]
    assert codec.text(codec.continuation(text)) == text


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.text(alphabet="abeosy :\n01é.", min_size=1, max_size=12),
    st.text(alphabet="abeosy :\n01é.", max_size=12),
)
def test_prompt_and_continuation_decode_to_the_joined_text(
    codecs: dict[str, Codec], prompt: str, answer: str
) -> None:
    for name in LOSSLESS:
        codec = codecs[name]
        opening = codec.opening(prompt)
        joined = codec.text([*opening, *codec.continuation(answer)])
        assert joined == codec.text(opening) + answer


@pytest.mark.parametrize("name", ["prepend BPE", "metaspace Unigram", "byte-level with prefix space"])
def test_the_dummy_space_is_really_there_and_really_left_out(name: str, codecs: dict[str, Codec]) -> None:
    codec = codecs[name]
    raw = lambda ids: codec.tokenizer.convert_ids_to_tokens(ids)  # noqa: E731
    assert raw(codec.ids("yes"))[0][0] in "▁Ġ"
    assert raw(codec.continuation("yes"))[0][0] == "y"
    assert raw(codec.continuation(" yes"))[0][0] in "▁Ġ"


def test_a_tokenizer_without_dummy_space_is_left_alone(codecs: dict[str, Codec]) -> None:
    for name in ("word-level", "byte-level"):
        assert codecs[name].continuation(" yes no") == codecs[name].ids(" yes no")


def test_bos_is_added_once_by_habit_and_never_twice(family: Maker) -> None:
    with_bos, without = Codec(family(bos=True)), Codec(family(bos=False))
    bos = with_bos.tokenizer.bos_token_id
    assert with_bos.opening("Once")[0] == bos
    assert with_bos.opening("<s>Once").count(bos) == 1
    assert bos not in without.opening("Once")
    assert bos not in with_bos.continuation("Once")


def test_special_token_text_is_found(family: Maker) -> None:
    codec = Codec(family())
    assert codec.controls("end </s> and [INST] and </s>") == ["</s>", "[INST]"]
    assert codec.controls("nothing here < s >") == []


def test_a_folder_without_a_tokenizer_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tokenizer in this folder"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{not json")
    with pytest.raises(DataError, match="cannot load a tokenizer"):
        load_tokenizer(tmp_path)


def test_a_saved_tokenizer_loads_from_its_folder(family: Maker, tmp_path: Path) -> None:
    made = family()
    made.save_pretrained(tmp_path)
    assert Codec(load_tokenizer(tmp_path)).opening("Once upon") == Codec(made).opening("Once upon")


@pytest.mark.parametrize("text", ["什么是闰年？", "สวัสดีครับ", "🙂👍🏽", "né\ufffdà", "plain words"])
def test_characters_of_several_tokens_are_shown_whole(text: str, codecs: dict[str, Codec]) -> None:
    for name in ("byte-level", "prepend BPE"):
        codec = codecs[name]
        ids = codec.continuation(text)
        shown = codec.shown(ids)
        assert len(shown) == len(ids) and "".join(shown) == text
        assert all("\ufffd" not in piece or "\ufffd" in text for piece in shown)


def test_half_a_character_at_the_end_is_shown_as_what_it_is(codecs: dict[str, Codec]) -> None:
    codec = codecs["byte-level"]
    shown = codec.shown(codec.continuation("a闰")[:-1])
    assert shown[0] == "a" and shown[-1] == "\ufffd"
