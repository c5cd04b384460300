"""The labelling page's site: a form that is posted for each answer, and a page that is rendered here.

The browser runs one script, of this package, which turns keys into presses of the page's own buttons. Nothing of a
response is given to it as code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from equipoise.label.desk import LONGEST_NOTE, Desk, Stale
from equipoise.label.errors import LabelError
from equipoise.label.guard import Guarded
from equipoise.label.markdown import html_of
from equipoise.safe_text import printable

PAGE = Path(__file__).parent / "page"
FILES = {"page.css": "text/css", "page.js": "text/javascript"}
RATER = re.compile(r"\w[\w .@+-]{0,39}")
LONGEST_FORM = 16 * LONGEST_NOTE  # bytes; a character takes up to 12 in a form
BUTTONS = {  # choice -> (key, words on the button)
    "a": ("a", "A is better"),
    "b": ("b", "B is better"),
    "tie": ("t", "tie"),
    "bad": ("x", "both bad"),
    "skip": ("s", "skip"),
}


def check_rater(name: str) -> str:
    """A rater's name. Raises LabelError for one that is empty, long or has other signs than letters and digits."""
    name = name.strip()
    if not RATER.fullmatch(name):
        raise LabelError(
            "a rater's name has 1 to 40 letters, digits, spaces, or any of . @ + - _, and begins with a letter or digit"
        )
    return name


def application(desk: Desk, token: str, port: int, rater: str | None = None) -> Guarded:
    """The site as an ASGI application. rater: the only one; None: a visitor of the page says a name."""
    site = Site(desk, f"/{token}", rater)
    routes = [
        Route(f"{site.root}/", site.welcome),
        Route(f"{site.root}/rater/{{name}}", site.show, methods=["GET"]),
        Route(f"{site.root}/rater/{{name}}", site.answer, methods=["POST"]),
        *(Route(f"{site.root}/{name}", site.own_file) for name in FILES),
    ]
    return Guarded(Starlette(routes=routes), token, port)


class Site:
    """The pages below `root`."""

    def __init__(self, desk: Desk, root: str, rater: str | None) -> None:
        self.desk, self.root, self.rater = desk, root, rater
        self._pages = Environment(loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined)
        self._pages.filters["markdown"] = html_of
        self._pages.filters["written"] = partial(
            printable, lines=True
        )  # with what is invisible, such as U+202E

    def welcome(self, request: Request) -> Response:
        """Asks for the rater's name, and leads to their questions."""
        given = request.query_params.get("name") if self.rater is None else self.rater
        if given is None:
            return self._page("rater.html", 200, said="")
        try:
            return self._to(check_rater(given))
        except LabelError as error:
            return self._page("rater.html", 400, said=str(error))

    def show(self, request: Request) -> Response:
        """The rater's open question."""
        name = request.path_params["name"]
        return self._question(name) if self._known(name) else _refused("no such rater", 404)

    async def answer(self, request: Request) -> Response:
        """What a rater pressed: a form with `choice`, `number` and `note`."""
        name, body = request.path_params["name"], b""
        if not self._known(name):
            return _refused("no such rater", 404)
        async for part in request.stream():
            body += part
            if len(body) > LONGEST_FORM:
                return _refused("too long", 413)
        try:
            form = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=8)
            choice, number, note = form["choice"][0], int(form["number"][0]), form.get("note", [""])[0]
        except (KeyError, ValueError):
            return _refused("no such answer", 400)
        return await run_in_threadpool(self._pressed, name, choice, number, note)  # it waits for the disk

    def own_file(self, request: Request) -> Response:
        """The style and the script."""
        name = request.url.path.rpartition("/")[2]
        kept = {"cache-control": "private, max-age=86400"}  # the next server has another address
        return Response((PAGE / name).read_text(encoding="utf-8"), media_type=FILES[name], headers=kept)

    def _pressed(self, name: str, pressed: str, number: int, note: str) -> Response:
        choice = next((one for one in self.desk.choices if one == pressed), None)
        try:
            if pressed == "undo":
                self.desk.undo(name, number)
            elif choice is not None:
                self.desk.choose(name, number, choice, note)
            else:
                return _refused("no such answer", 400)
        except Stale as error:
            return self._question(name, 409, f"Nothing was saved: {error}.")
        except OSError as error:
            return self._question(name, 507, f"Not saved: {error}.")
        return self._to(name)

    def _known(self, name: str) -> bool:
        return RATER.fullmatch(name) is not None and self.rater in (None, name)

    def _to(self, name: str) -> Response:
        return RedirectResponse(f"{self.root}/rater/{quote(name)}", 303)

    def _question(self, name: str, status: int = 200, said: str = "") -> Response:
        return self._page(
            "question.html",
            status,
            rater=name,
            shown=self.desk.show(name),
            question=self.desk.question,
            buttons=_buttons(self.desk.choices),
            said=said,
            longest=LONGEST_NOTE,
        )

    def _page(self, name: str, status: int, **fields: Any) -> Response:
        return HTMLResponse(self._pages.get_template(name).render(root=self.root, **fields), status)


def _buttons(choices: Sequence[str]) -> list[Mapping[str, str]]:
    return [dict(zip(("choice", "key", "words"), (one, *BUTTONS[one]), strict=True)) for one in choices]


def _refused(said: str, status: int) -> Response:
    return PlainTextResponse(f"{said}\n", status)
