"""The page over HTTP: who is let in, what a press saves, and that nothing of a response becomes markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the labelling page needs the extra `label`")
from starlette.testclient import TestClient

from equipoise.label.desk import PlannedDesk
from equipoise.label.errors import LabelError
from equipoise.label.markdown import LONGEST, html_of
from equipoise.label.pairs import Pair
from equipoise.label.server import Page
from equipoise.label.site import application, check_rater
from equipoise.label.votes import Votes

TOKEN, PORT = "secret-token", 8123
ORIGIN = {"origin": f"http://127.0.0.1:{PORT}"}
HOME = f"/{TOKEN}/rater/ann"
SYSTEMS = ("model-one", "model-two")
PAIRS = [
    Pair(context=f"prompt {i}", answers=(f"first {i}", f"second {i}"), systems=SYSTEMS) for i in range(3)
]


@pytest.fixture
def desk(tmp_path: Path) -> PlannedDesk:
    return PlannedDesk(Votes.begin(tmp_path / "v.jsonl", PAIRS, seed=0, repeats=0.0, question="?"))


@pytest.fixture
def client(desk: PlannedDesk) -> TestClient:
    return TestClient(application(desk, TOKEN, PORT), f"http://127.0.0.1:{PORT}", follow_redirects=False)


def press(client: TestClient, choice: str, number: int, headers: dict[str, str] = ORIGIN, **more: str) -> int:
    form = {"choice": choice, "number": str(number), **more}
    return client.post(HOME, data=form, headers=headers).status_code


# who is let in --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/rater/ann",
        "/wrong/",
        "/secret-toke/",
        "/secret-token2/",
        "//secret-token/",
        "/%2e%2e/",
        "/wröng/",
    ],
)
def test_without_the_token_nothing_is_told(client: TestClient, path: str):
    reply = client.get(path)
    assert (reply.status_code, reply.text) == (404, "refused\n")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        "127.0.0.1",
        "127.0.0.1:1",
        "",
        f"127.0.0.1:{PORT}.evil.example",
    ],
)
def test_another_host_is_refused_even_with_the_token(client: TestClient, host: str):
    assert client.get(HOME, headers={"host": host}).status_code == 421
    assert client.get(HOME, headers={"host": f"localhost:{PORT}"}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [None, "null", "http://evil.example", "https://127.0.0.1:8123", "http://127.0.0.1:1", "http://127.0.0.1"],
)
def test_a_press_from_another_origin_is_refused(client: TestClient, desk: PlannedDesk, origin: str | None):
    assert press(client, "a", 0, {} if origin is None else {"origin": origin}) == 403
    assert not desk.votes.cast["ann"]
    assert press(client, "a", 0) == 303 and len(desk.votes.cast["ann"]) == 1


def test_every_reply_says_what_may_run(client: TestClient):
    for path, status in (
        ("/", 404),
        (f"/{TOKEN}/", 200),
        (HOME, 200),
        (f"/{TOKEN}/page.js", 200),
        (f"/{TOKEN}/x", 404),
    ):
        reply = client.get(path)
        policy = reply.headers["content-security-policy"]
        assert reply.status_code == status
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
        assert reply.headers["cache-control"] == (
            "private, max-age=86400" if path.endswith(".js") else "no-store"
        )
        assert not any(name.startswith("access-control") for name in reply.headers)


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "PATCH"])
def test_other_methods_do_nothing(client: TestClient, desk: PlannedDesk, method: str):
    assert client.request(method, HOME, headers=ORIGIN).status_code == 405
    assert client.request(method, HOME).status_code == 403
    assert not desk.votes.cast["ann"]


# a rater --------------------------------------------------------------------------------------------


def test_a_rater_says_a_name_or_the_command_does(client: TestClient, desk: PlannedDesk):
    assert "Who answers?" in client.get(f"/{TOKEN}/").text
    reply = client.get(f"/{TOKEN}/", params={"name": " ann b. "})
    assert (reply.status_code, reply.headers["location"]) == (303, f"/{TOKEN}/rater/ann%20b.")
    assert client.get(reply.headers["location"]).status_code == 200
    for name in ("", "../x", "<b>", "a" * 41, "-x", "a\nb"):
        assert client.get(f"/{TOKEN}/", params={"name": name}).status_code == 400
        with pytest.raises(LabelError, match="1 to 40 letters"):
            check_rater(name)
    assert client.get(f"/{TOKEN}/rater/%3Cb%3E").status_code == 404
    one = TestClient(
        application(desk, TOKEN, PORT, "bob"), f"http://127.0.0.1:{PORT}", follow_redirects=False
    )
    assert one.get(f"/{TOKEN}/").headers["location"] == f"/{TOKEN}/rater/bob"
    assert one.get(HOME).status_code == 404 and press(one, "a", 0) == 404


def test_presses_are_saved_as_they_come_and_shown(client: TestClient, desk: PlannedDesk, tmp_path: Path):
    page = client.get(HOME).text
    assert "1 of 3" in page and not any(name in page for name in SYSTEMS)
    assert press(client, "a", 0, note="because </textarea><b>") == 303
    assert json.loads((tmp_path / "v.jsonl").read_text().splitlines()[-1])["choice"] == "a"
    assert press(client, "undo", 1) == 303
    page = client.get(HOME).text
    assert "because &lt;/textarea&gt;&lt;b&gt;" in page and "Your answer was: a" in page
    for number, choice in enumerate(("b", "bad", "skip")):
        assert press(client, choice, number) == 303
    assert "All 3 questions are answered" in client.get(HOME).text
    assert [vote.choice for vote in desk.votes.cast["ann"]] == ["b", "bad", "skip"]


def test_what_is_no_press_is_refused(client: TestClient, desk: PlannedDesk):
    assert press(client, "other", 0) == 400
    assert client.post(HOME, data={"choice": "a"}, headers=ORIGIN).status_code == 400
    assert client.post(HOME, data={"choice": "a", "number": "x"}, headers=ORIGIN).status_code == 400
    assert client.post(HOME, content=b"\xff" * 500_000, headers=ORIGIN).status_code == 413
    reply = client.post(HOME, data={"choice": "a", "number": "2"}, headers=ORIGIN)
    assert reply.status_code == 409 and "Nothing was saved" in reply.text
    assert not desk.votes.cast["ann"]


def test_a_press_that_cannot_be_written_is_not_counted(client: TestClient, desk: PlannedDesk, tmp_path: Path):
    (tmp_path / "v.jsonl").rename(tmp_path / "away")
    (tmp_path / "v.jsonl").mkdir()
    reply = client.post(HOME, data={"choice": "a", "number": "0"}, headers=ORIGIN)
    assert reply.status_code == 507 and "Not saved" in reply.text and "1 of 3" in reply.text


def test_a_port_that_is_taken_is_said(desk: PlannedDesk):
    page, other = Page(desk), Page(desk)
    assert page.address.split("/")[3] != other.address.split("/")[3]
    for one in (page, other):
        one.start()
    try:
        assert page.address.startswith(f"http://127.0.0.1:{page.port}/") and len(page.address) > 50
        with pytest.raises(LabelError, match=f"port {page.port} of 127.0.0.1 cannot be used"):
            Page(desk, page.port)
    finally:
        for one in (page, other):
            one.stop()


# hostile text ---------------------------------------------------------------------------------------

HOSTILE = [
    "<script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "[x](javascript:window.hacked=1) [y](JaVaScRiPt:1) [z](data:text/html,<b>) [v](vbscript:1)",
    "[r][1]\n\n[1]: javascript:window.hacked=1",
    "</textarea></pre></form><svg onload=window.hacked=1>",
    '![x](http://evil.example/x.png "t") ![a"onerror="h](x)',
    '```html" onmouseover="window.hacked=1\n</code></pre><script>1</script>\n```',
    "<https://evil.example> https://evil.example [ok](https://evil.example/a?b=\"c'd)",
    "| <img src=x> |\n|---|\n| </table><script>1</script> |",
    "&lt;script&gt; &#60;script&#62; \u202etxet \x00 <!-- --> <![CDATA[ ]]> {{ 7*7 }} {% x %}",
    "<meta http-equiv=refresh content=0;url=//evil.example><base href=//evil.example><iframe srcdoc=x>",
]
ALLOWED = set(
    "p br span code pre em strong ul ol li blockquote hr table thead tbody tr th td h1 h2 h3 s".split()  # noqa: SIM905
)


class Tags(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_gives_harmless_tags_alone(text: str):
    for tag, attributes in Tags(html_of(text)).found:
        assert tag in ALLOWED, (tag, text)
        assert set(attributes) <= {"class", "start", "style"}, (tag, attributes)


def test_markdown_shows_what_is_there():
    assert html_of("**b** `c` <i>") == "<p><strong>b</strong> <code>c</code> &lt;i&gt;</p>\n"
    assert html_of("a\nb") == "<p>a<br />\nb</p>\n"
    assert "(https://e.org/)" in html_of("[said](https://e.org/)") and "<a" not in html_of("<https://e.org/>")
    assert "[image: alt (x.png)]" in html_of("![alt](x.png)")
    assert html_of("\ud800") == "<p>?</p>\n"
    long = "[" * (LONGEST + 1)
    assert html_of(long) == f"<pre>{long}</pre>"


@pytest.mark.parametrize("kind", ["text", "chat"])
def test_a_hostile_pair_leaves_the_page_as_it_is(tmp_path: Path, kind: str):
    def tags(first: str, second: str) -> list[tuple[str, dict[str, str | None]]]:
        context = first if kind == "text" else [{"role": first, "content": second}]
        pair = Pair(context=context, answers=(first, second), systems=(first, second))
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        desk = PlannedDesk(Votes.begin(path, [pair], seed=0, repeats=0.0, question=first), first)
        client = TestClient(application(desk, TOKEN, PORT), f"http://127.0.0.1:{PORT}")
        page = client.get(HOME)
        assert page.status_code == 200
        return [(tag, attributes) for tag, attributes in Tags(page.text).found if tag not in ALLOWED]

    plain = tags("harmless", "text")
    for first, second in pairwise(HOSTILE):
        assert tags(first, second) == plain
