"""The wire objects of files and uploads, and the terms on which a file is kept."""

from collections.abc import Mapping
from typing import Any, Final

from jobs import files, ids
from jobs.admission import terms
from jobs.errors import BadRequest
from jobs.files import StoredFile
from jobs.records import Json
from jobs.uploads import Part, Upload

_SHORTEST_SECONDS: Final = 3600
_LONGEST_SECONDS: Final = 30 * 86_400
_LONGEST_NAME: Final = 1024


def file(stored: StoredFile) -> Json:
    """The file object. A file is checked before it is stored, so it is `processed` at once."""
    return {
        "id": ids.file_id(stored.id),
        "object": "file",
        "bytes": stored.bytes,
        "created_at": int(stored.created_at.timestamp()),
        "expires_at": None if stored.expires_at is None else int(stored.expires_at.timestamp()),
        "filename": stored.filename,
        "purpose": stored.purpose,
        "status": "processed",
        "status_details": None,
    }


def upload(stored: Upload, completed: StoredFile | None = None) -> Json:
    """The upload object, with the file that it became."""
    return {
        "id": ids.upload_id(stored.id),
        "object": "upload",
        "bytes": stored.bytes,
        "created_at": int(stored.created_at.timestamp()),
        "expires_at": int(stored.expires_at.timestamp()),
        "filename": stored.filename,
        "purpose": stored.purpose,
        "status": stored.status,
        "file": None if completed is None else file(completed),
    }


def part(stored: Part) -> Json:
    """The object of an upload's part."""
    return {
        "id": ids.part_id(stored.id),
        "object": "upload.part",
        "created_at": int(stored.created_at.timestamp()),
        "upload_id": ids.upload_id(stored.upload_id),
    }


def purpose(fields: Mapping[str, Any]) -> str:
    """What the file is for.

    Raises:
        BadRequest: it is missing, or nothing that one may upload a file for.
    """
    found = required(fields, "purpose")
    if found not in files.PURPOSES:
        message = f"'{found!s:.100}' is not one of {list(files.PURPOSES)} - 'purpose'"
        raise BadRequest(message, param="purpose")
    return str(found)


def filename(value: Any, param: str) -> str:
    """The file's name.

    Raises:
        BadRequest: it is no string, too long, or cannot be stored.
    """
    if not isinstance(value, str) or len(value) > _LONGEST_NAME:
        message = f"Invalid '{param}': expected a name of at most {_LONGEST_NAME} characters."
        raise BadRequest(message, param=param, code="invalid_value")
    return terms.storable(value, param)


def expires_after(anchor: Any, seconds: Any) -> int | None:
    """Seconds from its creation that a file is asked to be kept; None if neither is given.

    Raises:
        BadRequest: naming the field.
    """
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        message = "Invalid 'expires_after.anchor': expected 'created_at'."
        raise BadRequest(message, param="expires_after.anchor", code="invalid_value")
    whole = isinstance(seconds, int) and not isinstance(seconds, bool)
    if not whole or not _SHORTEST_SECONDS <= seconds <= _LONGEST_SECONDS:
        message = f"Invalid 'expires_after.seconds': expected {_SHORTEST_SECONDS} to {_LONGEST_SECONDS} seconds."
        raise BadRequest(message, param="expires_after.seconds", code="invalid_value")
    return int(seconds)


def required(fields: Mapping[str, Any], name: str) -> Any:
    """A field that must be there.

    Raises:
        BadRequest: it is not.
    """
    if fields.get(name) is None:
        message = f"Missing required parameter: '{name}'."
        raise BadRequest(message, param=name, code="missing_required_parameter")
    return fields[name]
