"""What may go wrong for a caller, free of HTTP: `jobs/error_response.py` gives each its status.

LonghaulError
├── BadRequest            the request itself is at fault
│   ├── Unprocessable     an idempotency key came back with another body
│   ├── TooLarge          the body is over the limit
│   └── WrongContentType  the body is not JSON by its own header
├── Unauthorized          no key, or not a valid one
├── NotFound              it does not exist for this tenant
├── Conflict              its state does not allow this
├── TooMany               a limit is reached
├── Unavailable           we cannot serve this now
└── UpstreamLost          a job ended without a response
"""


class LonghaulError(Exception):
    """Something went wrong."""

    type = "invalid_request_error"

    def __init__(self, message: str | None = None, *, param: str | None = None, code: str | None = None) -> None:
        self.message = message or (self.__doc__ or "").strip()
        self.param = param
        self.code = code
        super().__init__(self.message)


class BadRequest(LonghaulError):
    """The request is not valid."""


class Unprocessable(BadRequest):
    """This idempotency key was used with another request."""


class TooLarge(BadRequest):
    """The request body is too large."""


class WrongContentType(BadRequest):
    """The request body must be sent as application/json."""


class Unauthorized(LonghaulError):
    """Incorrect API key provided."""


class NotFound(LonghaulError):
    """It does not exist."""


class Conflict(LonghaulError):
    """Its state does not allow this."""


class TooMany(LonghaulError):
    """Too many requests."""

    type = "rate_limit_error"


class Unavailable(LonghaulError):
    """The service is not available right now."""

    type = "service_unavailable_error"


class UpstreamLost(LonghaulError):
    """The job ended without a response."""

    type = "server_error"
