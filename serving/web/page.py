"""The page at `/`: a form, and below it the answer. Works by plain form posts; JavaScript only saves the reload."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from essays.errors import FairmarkError
from essays.gate import MAX_CHARACTERS, MIN_WORDS
from serving.access import require_key, require_scope
from serving.desk import Desk
from serving.drift.report import drift_response
from serving.errors import ErrorDetail, Reply, reply_to
from serving.presence import unless_gone
from serving.scorer import Scorer
from serving.web.drift import DriftView, drift_view
from serving.web.explanation import explanation_view
from serving.web.forms import DocumentReader, PostedForm, read_form
from serving.web.view import (
    ClassView,
    FormValues,
    PageView,
    ResultView,
    errors_of,
    model_options,
    prompt_options,
    reason_of,
    result_view,
)

WEB_FOLDER = Path(__file__).parent
STATIC_FOLDER = WEB_FOLDER / "static"
_FIELDS = ("essay", "prompt_id", "model", "api_key", "advisory", "explain")


class Page:
    """Handlers of the pages."""

    def __init__(self, get_desk: Callable[[], Desk]) -> None:
        self._get_desk = get_desk
        self._documents = DocumentReader()
        self._templates = Environment(
            loader=FileSystemLoader(WEB_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    async def handle(self, request: Request) -> Response:
        """GET: the form. POST: the form and the answer to it."""
        desk = self._get_desk()
        if not desk.ready:
            return self._warming_up(desk)
        if request.method != "POST":
            return self._render(self._form(desk, FormValues()), 200)
        return await unless_gone(request, self._answer(desk, await self._read(desk, request)))

    async def show_class(self, _: Request) -> Response:
        """The page for a whole class, whose essays its script sends to `/score_batch`."""
        return self._show_class(judges=False)

    async def show_validity(self, _: Request) -> Response:
        """The same for a class that its teacher marked: what comes back is held against `/validity`."""
        return self._show_class(judges=True)

    def _show_class(self, *, judges: bool) -> Response:
        desk = self._get_desk()
        if not desk.ready:
            return self._warming_up(desk)
        limits, form = desk.limits, self._form(desk, FormValues())
        limited = (limits.max_batch_essays, limits.max_body_bytes)
        view = ClassView(form.prompts, form.models, *limited, asks_key=form.asks_key, judges=judges)
        return HTMLResponse(self._templates.get_template("class.html").render(view=view))

    async def show_drift(self, request: Request) -> Response:
        """GET: the question for an operator's key. POST: what `/drift` says, in words and drawings."""
        desk = self._get_desk()
        if not desk.ready:
            return self._warming_up(desk)
        if request.method != "POST":
            return self._render_drift(DriftView())
        try:
            posted = await self._read(desk, request)
            require_key(desk.settings.access.keys, "admin", posted.fields.get("api_key", ""), field="api_key")
        except FairmarkError as error:
            reply = reply_to(error)
            return self._render_drift(DriftView(errors=errors_of(reply.detail)), reply.status)
        titles = {prompt.prompt_id: prompt.title for prompt in desk.catalogue().prompts}
        return self._render_drift(drift_view(drift_response(desk.drift), titles))

    async def read_file(self, request: Request) -> Response:
        """The text of a posted file, for the page's script."""
        desk = self._get_desk()
        require_scope(desk.settings.access, "score", request.headers)
        text = await self._documents.text_of(await self._read(desk, request))
        return JSONResponse({"text": text})

    def show_error(self, reply: Reply) -> Response:
        """The page with an error, where the form could not be read."""
        desk = self._get_desk()
        form = self._form(desk, FormValues()) if desk.ready else PageView(FormValues())
        return self._render(_with_error(form, reply.detail), reply.status, reply.headers)

    async def _read(self, desk: Desk, request: Request) -> PostedForm:
        return await read_form(request, desk.settings)

    async def _answer(self, desk: Desk, posted: PostedForm) -> Response:
        values = FormValues(**{name: posted.fields.get(name, "") for name in _FIELDS})
        form = self._form(desk, values)
        try:
            if desk.settings.access.required:
                require_key(desk.settings.access.keys, "score", values.api_key, field="api_key")
            if posted.file_name:
                values = replace(values, essay=await self._documents.text_of(posted))
                form = replace(form, values=values)
            with desk.in_use() as scorer:
                catalogue = scorer.catalogue
                model = catalogue.model(values.model)
                catalogue.prompt(values.prompt_id, model)
                comparison = await scorer.compare(values.essay, values.prompt_id, advisory=values.wants_advice)
                result = result_view(comparison, model.name, catalogue)
                if values.explain:
                    result = await _explained(scorer, values, result)
        except FairmarkError as error:  # answered here, so that the writer's text stays in the form
            reply = reply_to(error)
            return self._render(_with_error(form, reply.detail), reply.status, reply.headers)
        return self._render(replace(form, result=result), 200)

    def _form(self, desk: Desk, values: FormValues) -> PageView:
        catalogue = desk.catalogue()
        prompt_id = values.prompt_id or catalogue.prompts[0].prompt_id
        return PageView(
            values,
            prompts=prompt_options(catalogue, prompt_id),
            models=model_options(
                catalogue,
                values.model,
                prompt_id,
                runtime_of=desk.scorer().identity,
                seconds_of=desk.metrics.mean_infer_s,
            ),
            min_words=MIN_WORDS,
            max_characters=MAX_CHARACTERS,
            asks_key=desk.settings.access.required,
            max_file_bytes=desk.settings.max_file_bytes,
        )

    def _warming_up(self, desk: Desk) -> Response:
        return self._render(PageView(FormValues(), waiting=desk.readiness().models), 503)

    def _render_drift(self, view: DriftView, status: int = 200) -> Response:
        return HTMLResponse(self._templates.get_template("drift.html").render(view=view), status)

    def _render(self, view: PageView, status: int, headers: dict[str, str] | None = None) -> Response:
        return HTMLResponse(self._templates.get_template("page.html").render(view=view), status, headers)


async def _explained(scorer: Scorer, values: FormValues, result: ResultView) -> ResultView:
    """The result with its explanation, or with the reason why there is none: the score stands all the same."""
    try:
        explanation = await scorer.explain(values.essay, values.prompt_id, values.model, advisory=values.wants_advice)
    except FairmarkError as error:
        return replace(result, unexplained=reason_of(reply_to(error).detail))
    return replace(result, explanation=explanation_view(explanation))


def _with_error(form: PageView, detail: ErrorDetail) -> PageView:
    return replace(form, errors=errors_of(detail), hint=detail.hint or "", can_advise=bool(detail.reasons))
