"""The earlier turns of the conversation that a job continues, put before what it says itself."""

from dataclasses import replace

from jobs import error_response, payload, responses
from jobs.database import Database
from jobs.errors import BadRequest
from jobs.records import ClaimedJob, Outcome
from jobs.states import Status


async def joined(database: Database, job: ClaimedJob) -> ClaimedJob | Outcome:
    """The job as the engine should see it; the outcome of one whose conversation went since it was accepted.

    Raises:
        SQLAlchemyError: the database is away.
    """
    if job.previous is None:
        return job
    try:
        earlier = await responses.turns(database, job.tenant_id, job.previous)
    except BadRequest as error:
        status = error_response.status_of(error)
        return Outcome(Status.FAILED, status, payload.write(error_response.body_of(error, job.endpoint, status)))
    return replace(job, body=payload.write(responses.continued(payload.decode(job.body), earlier)))
