"""The sandbox of chat templates: what transformers renders it renders too, and nothing runs away."""

from __future__ import annotations

import time
from datetime import datetime, timezone

import pytest
from jinja2.exceptions import SecurityError, TemplateError

from chat_templates import TEMPLATES, tokenizer
from equipoise.data.records import Message
from equipoise.data.rendering.template_sandbox import BoundedTemplate, TemplateLimit
from equipoise.data.rendering.templates import ChatTemplate

DAY = datetime(2026, 2, 3, tzinfo=timezone.utc)
TURNS = [
    Message(role="user", content="Name a prime & <say> 'why'."),
    Message(role="assistant", content=" 7. "),
]


@pytest.mark.parametrize("name", list(TEMPLATES))
@pytest.mark.parametrize("turns", [TURNS[:1], TURNS, [*TURNS, TURNS[0]]])
def test_a_template_gives_the_text_that_transformers_gives(name: str, turns: list[Message]) -> None:
    source, eos = TEMPLATES[name]
    source = source.replace("strftime_now('%d %b %Y')", "'03 Feb 2026'")
    made = tokenizer(source, eos)
    template = ChatTemplate(made, None)
    messages = [turn.as_dict() for turn in turns]
    for asks in (False, True):
        ours = template._render(turns, (), {}, generation=asks)
        assert ours == made.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks)


@pytest.mark.parametrize("content", ["I am", "I am ", " I"])
@pytest.mark.parametrize("name", ["chatml", "chatml that trims", "llama 2", "qwen 3"])
def test_an_open_turn_is_the_one_that_transformers_leaves_open(name: str, content: str) -> None:
    source, eos = TEMPLATES[name]
    made = tokenizer(source, eos)
    turns = [TURNS[0], Message(role="assistant", content=content)]
    theirs = made.apply_chat_template(
        [turn.as_dict() for turn in turns], tokenize=False, continue_final_message=True
    )
    assert ChatTemplate(made, None).context(turns) == theirs


def doubled(step: str, start: str = "'ab'") -> str:
    return "{% set s = namespace(t=" + start + ") %}{% for i in range(99) %}" + step + "{% endfor %}"


ENDLESS = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "recursion": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "doubling by +": doubled("{% set s.t = s.t + s.t %}"),
    "doubling by ~": doubled("{% set s.t = s.t ~ s.t %}"),
    "doubling by %": doubled("{% set s.t = '%s%s' % (s.t, s.t) %}"),
    "doubling by format": doubled("{% set s.t = '{0}{0}'.format(s.t) %}"),
    "doubling by join": doubled("{% set s.t = [s.t, s.t] | join %}"),
    "doubling by a block": doubled("{% set s.t %}{{ s.t }}{{ s.t }}{% endset %}"),
    "growth by replace": doubled("{% set s.t = s.t | replace('ab', 'ababab') %}"),
    "growth by a method": doubled("{% set s.t = s.t.replace('ab', 'ababab') %}"),
    "doubling of a list": doubled("{% set s.t = s.t + s.t %}", "['a']"),
    "repetition": "{{ 'a' * 10 ** 9 }}",
    "a power": "{{ 9 ** 9 ** 999 }}",
    "a width": "{{ 'a'.center(10 ** 9) }}",
    "a width of a filter": "{{ 'a' | center(1000000000) }}",
    "a width in a format": "{{ '%1000000000d' % 1 }}",
    "a width from a value": "{{ '{:>{}}'.format(1, 1000000000) }}",
    "an indent": "{{ [1] | tojson(indent=1000000) }}",
    "much output": "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
}


@pytest.mark.parametrize("name", list(ENDLESS))
def test_what_has_no_end_is_ended(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.data.rendering.template_sandbox.SECONDS", 0.3)
    begin = time.monotonic()
    with pytest.raises(TemplateLimit):
        BoundedTemplate(ENDLESS[name]).render(DAY, messages=[])
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ namespace(__a=1) }}",
        "{{ range.__globals__.os }}",
    ],
)
def test_the_inside_of_python_is_out_of_reach(source: str) -> None:
    with pytest.raises((SecurityError, TemplateError)):
        BoundedTemplate(source).render(DAY, messages=[])


def test_nesting_too_deep_is_one_error() -> None:
    with pytest.raises(TemplateError, match="nested too deep"):
        BoundedTemplate("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}")


def test_the_clock_stands_at_the_day_that_is_given() -> None:
    assert BoundedTemplate("{{ strftime_now('%Y-%m-%d') }}").render(DAY) == "2026-02-03"
