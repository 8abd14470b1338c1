"""The page at `/`: a form, and below it the answer. Works by plain form posts; JavaScript only saves the reload."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from essays.errors import FairmarkError
from essays.gate import MAX_CHARACTERS, MIN_WORDS
from serving.bodies import FORM, read_body
from serving.desk import Desk
from serving.errors import ErrorDetail, MalformedRequest, Reply, reply_to
from serving.web.view import FormValues, PageView, errors_of, model_options, prompt_options, result_view

WEB_FOLDER = Path(__file__).parent
STATIC_FOLDER = WEB_FOLDER / "static"
_FIELDS = ("essay", "prompt_id", "model", "advisory")


class Page:
    """Handlers of the page."""

    def __init__(self, get_desk: Callable[[], Desk]) -> None:
        self._get_desk = get_desk
        self._template = Environment(
            loader=FileSystemLoader(WEB_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        ).get_template("page.html")

    async def handle(self, request: Request) -> Response:
        """GET: the form. POST: the form and the answer to it."""
        desk = self._get_desk()
        if not desk.ready:
            return self._render(PageView(FormValues(), waiting=desk.readiness().models), 503)
        if request.method != "POST":
            return self._render(self._form(desk, FormValues()), 200)
        body = await read_body(request, FORM, desk.settings.max_body_bytes)
        return await self._answer(desk, parse_form(body))

    def show_error(self, reply: Reply) -> Response:
        """The page with an error, where the form could not be read."""
        desk = self._get_desk()
        form = self._form(desk, FormValues()) if desk.ready else PageView(FormValues())
        return self._render(_with_error(form, reply.detail), reply.status, reply.headers)

    async def _answer(self, desk: Desk, values: FormValues) -> Response:
        form = self._form(desk, values)
        try:
            catalogue = desk.catalogue()
            catalogue.prompt(values.prompt_id, catalogue.model(values.model))
            comparison = await desk.scorer().compare(values.essay, values.prompt_id, advisory=values.advisory == "yes")
        except FairmarkError as error:  # answered here, so that the writer's text stays in the form
            reply = reply_to(error)
            return self._render(_with_error(form, reply.detail), reply.status, reply.headers)
        return self._render(replace(form, result=result_view(comparison, values.model, catalogue)), 200)

    def _form(self, desk: Desk, values: FormValues) -> PageView:
        catalogue = desk.catalogue()
        return PageView(
            values,
            prompts=prompt_options(catalogue, values.prompt_id or catalogue.prompts[0].prompt_id),
            models=model_options(catalogue, values.model),
            min_words=MIN_WORDS,
            max_characters=MAX_CHARACTERS,
        )

    def _render(self, view: PageView, status: int, headers: dict[str, str] | None = None) -> Response:
        return HTMLResponse(self._template.render(view=view), status, headers)


def parse_form(body: bytes) -> FormValues:
    """The fields of a posted form. Raises MalformedRequest."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), errors="strict", max_num_fields=10
        )
    except ValueError:  # UnicodeDecodeError is one
        raise MalformedRequest("the form cannot be read", hint="send it as UTF-8, as browsers do") from None
    given = dict(pairs)
    return FormValues(**{name: given.get(name, "") for name in _FIELDS})


def _with_error(form: PageView, detail: ErrorDetail) -> PageView:
    return replace(form, errors=errors_of(detail), hint=detail.hint or "", can_advise=bool(detail.reasons))
