"""A request's own webhook, ready to be stored."""

import json
from collections.abc import Mapping
from typing import Any

from jobs import webhooks
from jobs.admission.webhook import Webhook
from jobs.database import Database
from jobs.errors import BadRequest
from jobs.records import OwnWebhook
from jobs.secrets import Vault


class Sealer:
    """Makes own webhooks ready to be stored: what is secret of them encrypted, and something there to sign with."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault
        self._signing: set[int] = set()
        """Tenants that have a default secret; they keep having one."""

    async def seal(self, tenant_id: int, webhook: Webhook) -> OwnWebhook:
        """The webhook as its row has it.

        Raises:
            NoSecretKey: this server has no key to encrypt with.
            BadRequest: it brings no secret, and its tenant has no default one.
        """
        stored: Mapping[str, Any] = {"url": webhook.url, "secret": webhook.secret, "headers": webhook.headers}
        sealed = self._vault.seal(json.dumps(stored), webhook.param)
        if webhook.secret is None:
            await self._insist_on_a_default(tenant_id, webhook.param)
        target = webhook.target
        return OwnWebhook(
            lane=webhooks.lane(tenant_id, target.scheme, target.authority),
            event_types=webhook.event_types,
            includes_result=webhook.includes_result,
            target=sealed,
        )

    async def _insist_on_a_default(self, tenant_id: int, param: str) -> None:
        if tenant_id in self._signing:
            return
        if not await webhooks.has_default(self._database, tenant_id):
            raise BadRequest(
                f"Nothing to sign with: give the webhook a secret in '{param}.secret', or make its tenant a default one"
                " with `longhaul keys webhook-secret`.",
                param=f"{param}.secret",
                code="webhook_secret_missing",
            )
        self._signing.add(tenant_id)
