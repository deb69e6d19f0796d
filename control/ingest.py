"""Reads the input files of batches: a line that is good becomes a job, one that admission refuses a failed line.

One pass and one transaction a batch: whoever dies in the middle leaves nothing behind, and another starts over.
"""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import structlog

from control import rounds
from control.rows import Rows
from control.sums import Sums
from jobs import ids, input_lines, payload
from jobs.accept import FlowKey
from jobs.admission.admit import Admission, Submit
from jobs.blobs import Blobs
from jobs.catalog import Catalog
from jobs.database import Database, Driver, fetch
from jobs.errors import BadRequest, LonghaulError, NotFound, TooLarge
from jobs.input_lines import Places, RequestLine, Seen
from jobs.records import Json, Model, NewJob, Tenant, Tier
from jobs.settings import Settings

_COMPANY: Final = 1000
_MOST_ERRORS: Final = 50_000
_MODEL: Final = "body.model"
_log = structlog.get_logger()


class Ingest:
    """`publish(model id, jobs)` hears of what waits once it is committed."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        catalog: Catalog,
        settings: Settings,
        publish: Callable[[int, int], None],
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._catalog = catalog
        self._admission = Admission(settings, catalog, database)
        self._settings = settings
        self._publish = publish

    async def run(self) -> int:
        """Read the files of all batches that nobody else is at; how many there were. Raises as `rounds.over`."""
        return await rounds.over(await self._database.run("batches_validating"), "ingest", self._take)

    async def _take(self, batch: Any) -> bool:
        """Read one batch's file; False if another process is at it."""
        await self._catalog.refresh()  # not a second old: a model that is missing fails the batch for good
        reading = Reading(batch, self._catalog, self._admission, self._settings)
        try:
            async with self._database.transaction() as connection:
                [lock] = await fetch(connection, "batch_lock", id=batch.id)
                if not lock.got:
                    return False
                await reading.read(connection, self._blobs)
                reading.raise_faults()
                await reading.start(connection)
        except _Withdrawn:
            return True
        except _Invalid:
            errors = json.dumps(reading.errors)
            await self._database.run("batch_failed", id=batch.id, errors=errors, model=reading.model)
            _log.info("a batch failed its validation", batch_id=ids.batch_id(batch.id), errors=len(reading.errors))
            return True
        for model_id, jobs in reading.jobs.items():
            self._publish(model_id, jobs)
        _log.info("a batch was read", batch_id=ids.batch_id(batch.id), lines=reading.total, refused=reading.refused)
        return True


class _Invalid(Exception):
    """The input file is at fault: nothing of it stays."""


class _Withdrawn(Exception):
    """The batch was cancelled, or its window was over, while it was read."""


class Reading:
    """One pass over one file. `errors` are the faults that fail the batch."""

    def __init__(self, batch: Any, catalog: Catalog, admission: Admission, settings: Settings) -> None:
        self._batch = batch
        self._tenant = Tenant(batch.tenant_id, "")
        self._catalog = catalog
        self._admission = admission
        self._settings = settings
        self._longest = settings.body_limit_bytes + input_lines.ENVELOPE_BYTES
        self._custom_ids = Seen()
        self._bodies = Seen()
        self._places = Places()
        self._shared = bytearray()
        """The job ids of the bodies in `_bodies`, 16 bytes each, in their order."""
        self._first_lines = array("I")
        """... and the lines where they stood."""
        self._flows: dict[int, int] = {}
        self._first: dict[int, bytes] = {}
        self._rows = Rows()
        self._sums = Sums(batch.tenant_id, batch.endpoint, settings)
        self.errors: list[Json] = []
        self.model: str | None = None
        self.jobs: Counter[int] = Counter()
        self.total = 0
        self.refused = 0

    async def read(self, connection: Driver, blobs: Blobs) -> None:
        """Write the rows of every line. Once a line is at fault, the rest is only looked at."""
        if self._batch.blob is None:
            return self._fault(None, BadRequest("Cannot find the input file.", param="file_id", code="invalid_request"))
        try:
            chunks = blobs.read(self._batch.blob)
            async for number, raw in input_lines.split(chunks, self._longest):
                self.total += 1
                if self.total > self._settings.batch_line_limit:
                    continue
                try:
                    await self._line(connection, number, raw)
                except (BadRequest, NotFound) as error:
                    self._fault(number, error)
                if len(self._rows) >= _COMPANY:
                    await self._write(connection)
        except FileNotFoundError:
            return self._fault(None, BadRequest("Cannot find the input file.", param="file_id", code="invalid_request"))
        await self._judge_as_a_whole(connection)
        await self._write(connection)

    def raise_faults(self) -> None:
        """Raises _Invalid if the file is at fault."""
        if self.errors:
            raise _Invalid

    async def start(self, connection: Driver) -> None:
        """Open the flows and let the batch begin.

        Raises:
            _Withdrawn: it may not any more.
        """
        for model_id, flow in sorted(self._flows.items(), key=lambda item: item[1]):
            first = self._first[model_id]
            await fetch(connection, "batch_open", flow=flow, jobs=self.jobs[model_id], first=first)
        if not await fetch(
            connection, "batch_started", id=self._batch.id, model=self.model, total=self.total, refused=self.refused
        ):
            raise _Withdrawn

    async def _line(self, connection: Driver, number: int, raw: bytes | None) -> None:
        """Add the rows of one line. Raises what is wrong with it as a line."""
        if raw is None:
            message = f"This line is too long: a request body may have {self._settings.body_limit_bytes} bytes."
            raise TooLarge(message, code="request_too_large")
        line = input_lines.read(raw, self._batch.endpoint)
        if self._custom_ids.add(_digest(line.custom_id.encode())) is not None:
            message = f"The custom_id '{line.custom_id:.100}' was used by an earlier line."
            raise BadRequest(message, param="custom_id", code="duplicate_custom_id")
        model = self._model_of(line)
        self._sums.line(line.body)
        if self.errors:
            return
        body = payload.write(line.body)
        try:
            if len(body) > self._settings.body_limit_bytes:
                limit = self._settings.body_limit_bytes
                raise TooLarge(f"The request body is over the limit of {limit} bytes.", code="request_too_large")
            submit = Submit(ids.new(), self._tenant, self._batch.endpoint, body, line.body, waited=False, line=True)
            job = await self._admission.admit(submit)
        except LonghaulError as error:
            self.refused += 1
            name = line.model or model.name
            self._rows.refuse(self._batch, number, line.custom_id, name, body, error, self.refused)
            return
        await self._admit(connection, number, line, job)

    async def _admit(self, connection: Driver, number: int, line: RequestLine, job: NewJob) -> None:
        if self._settings.batch_deduplicate and input_lines.is_deterministic(line.body):
            before = self._bodies.add(_digest(job.model.encode() + b"\0" + job.body))
            if before is not None:
                shared = UUID(bytes=bytes(self._shared[16 * before : 16 * before + 16]))
                return self._rows.copy(self._batch.id, number, line.custom_id, shared, self._first_lines[before])
            self._shared += job.id.bytes
            self._first_lines.append(number)
        self._sums.job(job)
        place = self._places.of(line.body, number)
        self._first[job.model_id] = min(self._first.get(job.model_id, place), place)
        self.jobs[job.model_id] += 1
        self._rows.job(self._batch.id, number, line.custom_id, job, await self._flow(connection, job.model_id), place)

    def _model_of(self, line: RequestLine) -> Model:
        """The line's model, which is the first line's unless a setting allows several."""
        try:
            model = self._catalog.find(line.model)
        except NotFound:
            message = f"The provided model '{line.model:.200}' is not supported by the Batch API."
            raise BadRequest(message, param=_MODEL, code="model_not_found") from None
        except BadRequest:
            raise BadRequest("Model parameter is required.", param=_MODEL, code="invalid_request") from None
        name = line.model or model.name
        if self.model is None:
            self.model = name
        elif self.model != name and not self._settings.batch_mixed_models:
            message = f"The model '{name:.200}' is not that of the file's first request, '{self.model:.200}'."
            raise BadRequest(message, param=_MODEL, code="mismatched_model")
        return model

    async def _flow(self, connection: Driver, model_id: int) -> int:
        """The batch's flow for a model, made in this transaction, so that nobody sees it before it has jobs."""
        if model_id not in self._flows:
            key: FlowKey = (model_id, int(Tier.BATCH), self._batch.tenant_id, False, self._batch.id)
            names = ("models", "tiers", "tenants", "waited", "batches")
            columns = {name: [value] for name, value in zip(names, key, strict=True)}
            await fetch(connection, "flows_make", **columns)
            [flow] = await fetch(connection, "flows_find", **columns)
            self._flows[model_id] = flow.id
        return self._flows[model_id]

    async def _judge_as_a_whole(self, connection: Driver) -> None:
        limit = self._settings.batch_line_limit
        if self.total > limit:
            message = f"The input file has {self.total} requests, and a batch may have {limit}."
            self._fault(None, BadRequest(message, code="too_many_tasks"))
        elif self.total == 0:
            message = "The input file is empty. Please ensure that the batch contains at least one request."
            self._fault(None, BadRequest(message, code="empty_file"))
        try:
            await self._sums.check(connection)
        except BadRequest as error:
            self._fault(None, error)

    def _fault(self, line: int | None, error: LonghaulError) -> None:
        self._rows.clear()
        if len(self.errors) < _MOST_ERRORS:
            self.errors.append({"code": error.code, "message": error.message, "param": error.param, "line": line})

    async def _write(self, connection: Driver) -> None:
        if not self.errors:
            await self._rows.write(connection)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
