# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The application: an ASGI app for Ray Serve, uvicorn or any other server."""
import asyncio
import hmac
import logging
from contextlib import asynccontextmanager
from importlib.resources import files as package_files
from typing import Any, AsyncIterator, Dict, Optional

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, Response

from ..version import __version__
from .problems import Problem
from .request_body import read_images
from .service import Service

__all__ = ['build_app']

LOGGER = logging.getLogger(__name__)
# The page takes nothing from elsewhere, and nobody frames it.
CONTENT_POLICY = ("default-src 'none'; script-src 'unsafe-inline'; style-src "
                  "'unsafe-inline'; img-src blob: data:; media-src blob:; "
                  "connect-src 'self'; frame-ancestors 'none'; base-uri "
                  "'none'; form-action 'none'")
BINARY = dict(type='string', format='binary')
FORM = dict(
    type='object',
    properties=dict(images=dict(type='array', items=BINARY)),
    required=['images'])
BODY = dict(
    requestBody=dict(
        required=True,
        content={
            'image/jpeg': dict(schema=BINARY),
            'image/png': dict(schema=BINARY),
            'application/octet-stream': dict(schema=BINARY),
            'multipart/form-data': dict(schema=FORM)
        }))
STATUSES: Dict[Any, Any] = {
    400: dict(description='An empty image, or a form that cannot be read'),
    401: dict(description='No bearer token, or a wrong one'),
    408: dict(description='The body did not arrive in time'),
    413: dict(description='Too many bytes, pixels or images'),
    415: dict(description='Another content type'),
    422: dict(description='Not an image, or one that cannot be decoded'),
    503: dict(description='Too much to do; try again later'),
    504: dict(description='No answer in time'),
}


def build_app(service: Service, token: Optional[str] = None) -> FastAPI:
    """The application around a service, which it closes at its end.

    Args:
        service (Service): Classifies.
        token (str, optional): What ``Authorization: Bearer`` must say of
            whoever asks for more than the health. Defaults to None, nothing.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.get_running_loop().run_in_executor(None, service.close)

    app = FastAPI(
        title='mmdynperceiver',
        version=__version__,
        description='Image classification with early exits.',
        lifespan=lifespan,
        # Their pages take scripts from other hosts.
        docs_url=None,
        redoc_url=None)
    _add_errors(app, service)
    _add_classify(app, service, token)
    _add_status(app, service, token)
    return app


def problem_response(status: int, message: str) -> JSONResponse:
    """An answer that says what is wrong."""
    headers = {}
    if status == 401:
        headers['WWW-Authenticate'] = 'Bearer'
    if status == 503:
        headers['Retry-After'] = '1'
    return JSONResponse(
        dict(error=dict(status=status, message=message)), status, headers)


def _add_errors(app: FastAPI, service: Service) -> None:
    """One form for all that goes wrong."""

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        service.recorder.metrics.answered(error.status)
        return problem_response(error.status, error.message)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request,
                      error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return problem_response(
            422, f'{first["loc"][-1]}: {first["msg"]}, got '
            f'{first.get("input")!r}')

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return problem_response(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        LOGGER.error('%s failed', request.url.path, exc_info=error)
        service.recorder.metrics.answered(500)
        return problem_response(
            500, 'an error of the server, which is in '
            'its log')


def _check(request: Request, token: Optional[str]) -> None:
    """Refuse who does not know the token, in the same time for all."""
    if token is None:
        return
    given = request.headers.get('authorization', '')
    kind, _, text = given.partition(' ')
    # Headers come as if they were Latin-1.
    right = hmac.compare_digest(text.strip().encode('latin-1'), token.encode())
    if kind.lower() != 'bearer' or not right:
        raise Problem(
            401, 'give the token of this service, as in '
            'Authorization: Bearer TOKEN')


def _add_classify(app: FastAPI, service: Service,
                  token: Optional[str]) -> None:
    """``POST /v1/classify``."""

    @app.post('/v1/classify', openapi_extra=BODY, responses=STATUSES)
    async def classify(
        request: Request, top: int = Query(5, ge=1, le=1000)) -> Response:
        """Classify one image or several."""
        _check(request, token)
        try:
            images = await read_images(request, service.limits)
        except ClientDisconnect:
            return Response(status_code=400)
        work = asyncio.ensure_future(service.classify(images, top))
        gone = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait((work, gone),
                               return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                return Response(status_code=400)  # nobody reads it
            answers = work.result()
        finally:
            work.cancel()
            gone.cancel()
        service.recorder.metrics.answered(200)
        return JSONResponse(dict(images=answers))


async def _gone(request: Request) -> None:
    """Wait until the client hangs up."""
    while (await request.receive())['type'] != 'http.disconnect':
        pass


def _add_status(app: FastAPI, service: Service, token: Optional[str]) -> None:
    """What the service says of itself."""

    @app.get('/healthz')
    async def health() -> Response:
        """Whether the process works."""
        return JSONResponse(dict(status='ok'))

    @app.get('/readyz', responses={503: dict(description='Not ready')})
    async def ready() -> Response:
        """Whether images are classified."""
        if service.ready:
            return JSONResponse(dict(status='ready'))
        return problem_response(503, 'the workers have stopped')

    @app.get('/v1/model', responses={401: STATUSES[401]})
    async def model(request: Request) -> Response:
        """The network, its classes and operating points."""
        _check(request, token)
        return JSONResponse(describe(service))

    @app.get('/v1/stats', responses={401: STATUSES[401]})
    async def stats(request: Request) -> Response:
        """Figures of the last ten seconds."""
        _check(request, token)
        return JSONResponse(service.live())

    @app.get('/metrics', responses={401: STATUSES[401]})
    async def metrics(request: Request) -> Response:
        """Metrics of this process for Prometheus; Ray has its own port."""
        _check(request, token)
        service.set_gauges()
        return Response(
            service.recorder.metrics.text(),
            media_type='text/plain; version=0.0.4')

    @app.get('/', include_in_schema=False)
    async def page() -> Response:
        page = package_files(__package__).joinpath('page.html')
        return HTMLResponse(
            page.read_text('utf-8'),
            headers={'Content-Security-Policy': CONTENT_POLICY})


def describe(service: Service) -> Dict[str, Any]:
    """What ``/v1/model`` says."""
    manifest, scheduler = service.runner.manifest, service.scheduler
    policy, controller = scheduler.policy, service.controller
    return dict(
        classes=manifest.classes,
        num_exits=manifest.num_exits,
        macs_per_exit=manifest.macs_per_exit,
        size=manifest.preprocessing['size'],
        precision=manifest.precision,
        policy=dict(thresholds=policy.thresholds, **policy.settings),
        operating_points=controller.describe() if controller else None,
        monitor=service.watch.status() if service.watch else None,
        batch_sizes=scheduler.sizes,
        segment_milliseconds=scheduler.costs._asdict(),
        limits=vars(service.limits),
        max_waiting=scheduler.max_waiting,
        source=manifest.source,
        version=__version__)
