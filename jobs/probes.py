"""What a worker and control answer by HTTP on a port of their own: `/metrics`, and whether they live and are ready."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client import make_wsgi_app, start_http_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def serve(port: int, ready: Callable[[], bool]) -> int:
    """Answer GET /metrics, /livez and /readyz on this port (0: any) from a thread of its own; the port.

    As the API does: `/livez` is 200 while the process answers, `/readyz` is 503 unless `ready()`, which is called on
    that thread.
    """
    server, _ = start_http_server(port)
    server.set_app(_routes(ready))
    return server.server_port


def _routes(ready: Callable[[], bool]) -> "WSGIApplication":
    metrics: WSGIApplication = make_wsgi_app()

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                return metrics(environ, start_response)
            case "/livez":
                return say("200 OK", b"ok", start_response)
            case "/readyz" if ready():
                return say("200 OK", b"ok", start_response)
            case "/readyz":
                return say("503 Service Unavailable", b"unavailable", start_response)
        return say("404 Not Found", b"no such path", start_response)

    def say(status: str, text: bytes, start_response: "StartResponse") -> Iterable[bytes]:
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
        return [text]

    return answer
