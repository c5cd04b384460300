"""Remote reward models: what is posted, where the score stands in the reply, and replies of servers that fail."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise import oracles
from equipoise.data.records import Conversation
from equipoise.json_http import LONGEST
from equipoise.oracles.checked import unwrapped
from equipoise.oracles.judges.json_client import number_at
from equipoise.oracles.protocol import OracleError
from oracles.json_server import Reply, posted

PROMPTS, FIRST, SECOND = ["q", "r"], ["long answer", "no"], ["yes", "maybe"]


def server_of(folder: Path, policy: Mapping[str, Any] | None = None, **settings: Any) -> Any:
    file = folder / "reward.yaml"
    file.write_text(json.dumps({"kind": "reward_server", **settings}))
    asked = oracles.Policy(**{"wait": 0.0, "retries": 1, **(policy or {})})
    return unwrapped(oracles.load(str(file), store=folder / "verdicts.sqlite", policy=asked))


def length(request: Any, number: int) -> bytes:
    return json.dumps({"score": float(len(request["input"][-1]["content"]))}).encode()


def test_scores_compare_through_bradley_terry_and_are_asked_once(tmp_path: Path):
    with posted(length) as (url, requests):
        oracle = server_of(tmp_path, url=f"{url}/reward")
        assert oracle.score(PROMPTS, FIRST).tolist() == [11.0, 2.0]
        expected = torch.sigmoid(torch.tensor([11.0 - 3, 2.0 - 5], dtype=torch.float64))
        assert torch.equal(oracle.compare(PROMPTS, FIRST, SECOND), expected)
        assert len(requests) == 4 and {path for path, _, _ in requests} == {"/reward"}
        assert requests[0][2] == {
            "input": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "long answer"}]
        }
        again = server_of(tmp_path, url=f"{url}/reward")
        assert torch.equal(again.compare(PROMPTS, FIRST, SECOND), expected) and len(requests) == 4


@pytest.mark.parametrize(
    ("settings", "request_", "reply"),
    [
        (
            {"api": "classify", "model": "rm"},
            {
                "model": "rm",
                "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
                "chat_template_kwargs": {},
                "use_activation": False,
            },
            {"data": [{"index": 0, "label": "LABEL_0", "probs": [0.25], "num_classes": 1}]},
        ),
        (
            {"api": "pooling", "model": "rm"},
            {
                "model": "rm",
                "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
                "chat_template_kwargs": {},
                "use_activation": False,
                "task": "classify",
            },
            {"data": [{"index": 0, "object": "pooling", "data": [0.25]}]},
        ),
        (
            {"api": "score", "model": "rm"},
            {"model": "rm", "text_1": "q", "text_2": "a", "use_activation": False},
            {"data": [{"index": 0, "object": "score", "score": 0.25}]},
        ),
        (
            {"request": {"query": ["{text}"], "to": {"keep": "{{text}}"}}, "score": "rewards.0"},
            {"query": ["qa"], "to": {"keep": "{{text}}"}},
            {"rewards": [0.25, 7]},
        ),
    ],
)
def test_each_api_has_its_request_and_its_place_of_the_score(
    settings: dict[str, Any], request_: Any, reply: Any, tmp_path: Path
):
    with posted(lambda *_: json.dumps(reply).encode()) as (url, requests):
        assert server_of(tmp_path, url=url, **settings).score(["q"], ["a"]).tolist() == [0.25]
        assert requests[0][2] == request_


def test_what_a_response_says_is_never_a_place(tmp_path: Path):
    with posted(lambda *_: b'{"score": 1}') as (url, requests):
        oracle = server_of(tmp_path, url=url, request={"a": "{response}", "b": "{prompt}"})
        oracle.score(["{response}"], ["{prompt}"])
        assert requests[0][2] == {"a": "{prompt}", "b": "{response}"}


def test_a_conversation_goes_as_messages_with_its_tools_where_there_is_a_place(tmp_path: Path):
    tool = {"type": "function", "function": {"name": "clock", "parameters": {}}}
    asked = Conversation([{"role": "user", "content": "q"}], tools=(tool,))
    with posted(lambda *_: b'{"score": 1}') as (url, requests):
        oracle = server_of(tmp_path, url=url, request={"turns": "{messages}", "tools": "{tools}"})
        oracle.score([asked], ["a"])
        assert requests[0][2]["tools"] == [tool] and requests[0][2]["turns"][-1]["role"] == "assistant"
        for settings, says in (
            ({}, r"has tools, and the request no \{tools\}"),
            ({"request": {"t": "{text}", "o": "{tools}"}}, r"a conversation has no plain text"),
        ):
            with pytest.raises(OracleError, match=says):
                server_of(tmp_path, url=url, **settings).score([asked], ["a"])
        assert len(requests) == 1


def test_the_key_is_sent_as_a_bearer_token_and_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with posted(length) as (url, requests):
        oracle = server_of(tmp_path, url=url, key="MY_KEY")
        oracle.score(["q"], ["a"])
        assert requests[0][1] == "Bearer sk-secret" and "secret" not in oracle.fingerprint
        server_of(tmp_path, url=f"{url}/other").score(["q"], ["a"])
        assert requests[1][1] is None
        monkeypatch.delenv("MY_KEY")
        with pytest.raises(OracleError, match="set the environment variable MY_KEY"):
            server_of(tmp_path, url=f"{url}/third", key="MY_KEY").score(["q"], ["a"])


BODIES = {
    "not a number": (b'{"score": NaN}', r"`score` is not finite"),
    "infinite": (b'{"score": -Infinity}', r"`score` is not finite"),
    "too large": (b'{"score": 1e999}', r"`score` is not finite"),
    "a whole number too large": (b'{"score": 1%s}' % (b"0" * 400), r"`score` is not finite"),
    "text": (b'{"score": "0.9"}', r"`score` is a text, not a number"),
    "a truth value": (b'{"score": true}', r"`score` is a truth value"),
    "null": (b'{"score": null}', r"`score` is null"),
    "missing": (b'{"reward": 1}', r"it has no `score`"),
    "a list": (b"[1]", r"it has no `score`"),
    "no JSON": (b"<html>busy</html>", r"no JSON: b'<html>busy</html>'"),
    "nothing": (b"", r"no JSON: b''"),
    "no UTF-8": (b"\xff\xfe", r"no JSON"),
    "deep": (b"[" * 100_000, r"no JSON"),
    "too long": (b'{"score": 1, "x": "' + b"x" * LONGEST + b'"}', r"a reply of more than 1,048,576 bytes"),
}


@pytest.mark.parametrize(("body", "says"), BODIES.values(), ids=BODIES.keys())
def test_a_reply_without_a_score_fails_and_is_never_guessed(body: bytes, says: str, tmp_path: Path):
    with posted(lambda request, n: body) as (url, requests):
        with pytest.raises(OracleError, match=says):
            server_of(tmp_path, url=url).score(["q"], ["a"])
        assert len(requests) == (1 if "more than" in says else 2)
        some = server_of(tmp_path, {"failures": 0.5}, url=f"{url}/again")
        assert some.score(["q"], ["a"]).isnan().tolist() == [True]


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ({"data": []}, "`data.*` must be a list of one element, and is 0 elements"),
        (
            {"data": [{"probs": [1]}, {"probs": [2]}]},
            "`data.*` must be a list of one element, and is 2 elements",
        ),
        (
            {"data": [{"probs": [0.1, 0.9]}]},
            "`data.*.probs.*` must be a list of one element, and is 2 elements",
        ),
        ({"data": {"probs": 1}}, "`data.*` must be a list of one element, and is an object"),
        ({"data": [[1]]}, "it has no `data.*.probs`"),
    ],
)
def test_a_wrong_number_of_results_is_named(reply: Any, says: str):
    with pytest.raises(ValueError) as error:
        number_at(reply, "data.*.probs.*")
    assert str(error.value) == says


def test_a_passing_failure_is_asked_again(tmp_path: Path):
    with posted(lambda request, n: 503 if n == 1 else b'{"score": 2}') as (url, requests):
        assert server_of(tmp_path, url=url).score(["q"], ["a"]).tolist() == [2.0]
        assert len(requests) == 2


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (401, r"reward server .*reward.yaml: the server at http.* refuses every question: status 401"),
        (404, r"refuses every question: status 404"),
        (405, r"refuses every question: status 405"),
        (400, r"status 400"),
        (
            (302, {"Location": "http://127.0.0.1:1/\x1b[2Jelsewhere"}, b""),
            r"redirects to http://127.0.0.1:1/.*elsewhere, which is not followed",
        ),
        ((200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"), r"the reply is compressed"),
    ],
)
def test_a_refusal_of_every_question_ends_at_once(answer: Reply, says: str, tmp_path: Path):
    with posted(lambda *_: answer) as (url, requests):
        with pytest.raises(OracleError, match=says) as error:
            server_of(tmp_path, url=url).score(["q"], ["a"])
        assert "\x1b" not in str(error.value) and len(requests) == 1


def test_a_redirect_takes_neither_texts_nor_key_to_another_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with (
        posted(length) as (other, stolen),
        posted(lambda *_: (307, {"Location": other}, b"")) as (url, _),
        pytest.raises(OracleError, match="not followed"),
    ):
        server_of(tmp_path, url=url, key="MY_KEY").score(["q"], ["a"])
    assert not stolen


def test_a_slow_server_and_one_that_drips_end_within_the_time(tmp_path: Path):
    with (
        posted(length, delay=3.0) as (url, _),
        pytest.raises(OracleError, match=r"no answer within 0\.3 s"),
    ):
        server_of(tmp_path, {"retries": 0}, url=url, timeout=0.3).score(["q"], ["a"])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stop = threading.Event()

        def drip() -> None:
            taken, _ = listening.accept()
            with taken:
                taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while not stop.wait(0.05):
                    try:
                        taken.sendall(b" ")
                    except OSError:
                        return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        began = time.monotonic()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(OracleError, match=r"no answer within 0\.5 s"):
            server_of(tmp_path, {"retries": 0}, url=url, timeout=0.5).score(["q"], ["a"])
        assert time.monotonic() - began < 10
        stop.set()
        thread.join()


def test_a_server_that_does_not_run_is_named(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(OracleError, match=rf"at http://127.0.0.1:{port}; does the server run\?"):
        server_of(tmp_path, url=f"http://127.0.0.1:{port}").score(["q"], ["a"])


def test_half_a_character_is_not_sent(tmp_path: Path):
    with posted(length) as (url, requests):
        with pytest.raises(OracleError, match="half of a character"):
            server_of(tmp_path, url=url).score(["q"], ["\ud800"])
        assert not requests


def test_the_caps_of_calls_and_of_price_hold(tmp_path: Path):
    with posted(length) as (url, requests):
        with pytest.raises(OracleError, match=r"would pass judging.most_calls = 1"):
            server_of(tmp_path, {"most_calls": 1}, url=url).score(PROMPTS, FIRST)
        with pytest.raises(OracleError, match=r"judging.most_cost"):
            server_of(tmp_path, {"most_cost": 0.03}, url=url, price=0.02).score(PROMPTS, FIRST)
        assert not requests
        oracle = server_of(tmp_path, url=url, price=0.02)
        oracle.score(PROMPTS, FIRST)
        assert oracle.account.cost == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, r"reward.yaml: url: Field required"),
        ({"url": "localhost:8000"}, r"url: the address of a server begins with http"),
        ({"url": "file:///etc/passwd"}, r"url: the address of a server begins with http"),
        ({"url": "http://a:b@c"}, r"url: an address with a password"),
        ({"url": "http://x", "api": "classify"}, r"`model` must be the model's name"),
        (
            {"url": "http://x", "api": "chat"},
            r"api: Input should be 'plain', 'classify', 'pooling' or 'score'",
        ),
        (
            {"url": "http://x", "request": {"input": "{answer}"}},
            r"request: no value for \{answer\}; there are",
        ),
        (
            {"url": "http://x", "request": {"input": "{prompt}"}},
            r"request: the request must hold the response",
        ),
        ({"url": "http://x", "score": "data..x"}, r"score: String should match"),
        ({"url": "http://x", "price": -1}, r"price: Input should be greater"),
        ({"url": "http://x", "timeout": 0}, r"timeout: Input should be greater"),
        ({"url": "http://x", "modle": "m"}, r"modle: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_setting_names_the_file_and_what_is_right(
    settings: dict[str, Any], says: str, tmp_path: Path
):
    with pytest.raises(OracleError, match=says):
        server_of(tmp_path, **settings)


def test_an_address_that_no_client_can_use_is_refused(tmp_path: Path):
    with pytest.raises(OracleError, match="http://"):
        server_of(tmp_path, url="http://[::1").score(["q"], ["a"])
