"""Looks at Redis: whether it answers, what it does when it is full, what a restart would cost."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from longhaul.doctor.finding import Finding, ok, trouble, warning

Configured: TypeAlias = Mapping[str | None, str | None]
"""Settings by name."""

_UNACKED: Final = 1000
_NEARLY: Final = 0.8


async def examine(url: str, prefix: str) -> list[Finding]:
    """Everything about it. Raises RedisError or OSError if it does not answer."""
    async with Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5, decode_responses=True) as redis:
        info: dict[str, Any] = await redis.info()
        unacked: int = await redis.hlen(f"{{{prefix}}}:unacked")
        try:
            # One by one: Redis 6 takes no two names.
            configured: Configured | None = {
                **await redis.config_get("maxmemory-policy"),
                **await redis.config_get("save"),
            }
        except ResponseError:  # hosted ones let nobody look
            configured = None
    found = [*_role(info), *_policy(info, configured), *_memory(info), *_persistence(info, configured)]
    if unacked > _UNACKED:
        message = f"{unacked} messages were taken and never acknowledged."
        found.append(
            warning("redis", message, "A worker's consumer hangs: restart workers one by one. No job is lost.")
        )
    return found


def silent(error: RedisError | OSError) -> Finding:
    """What it means that it does not answer."""
    message = f"It does not answer: {error}"
    return trouble("redis", message, "Start it, or set REDIS_URL right. Jobs run meanwhile, but streams stand still.")


def _role(info: dict[str, Any]) -> Iterator[Finding]:
    if info.get("role") == "slave":
        yield trouble("redis", "It is a replica, which takes no writes.", "Point REDIS_URL at the primary.")
    else:
        yield ok("redis", f"Redis {info.get('redis_version', 'of an unknown release')} answers.")


def _policy(info: dict[str, Any], configured: Configured | None) -> Iterator[Finding]:
    policy = info.get("maxmemory_policy") or (configured or {}).get("maxmemory-policy")
    if policy is None:
        message = "It does not say what it does when it is full."
        yield warning("redis policy", message, "See to it that `maxmemory-policy` is `noeviction`.")
    elif policy != "noeviction":
        message = f"When it is full it throws away what it holds: its policy is `{policy}`."
        yield trouble("redis policy", message, "Set `maxmemory-policy noeviction`; caches want a Redis of their own.")
    else:
        yield ok("redis policy", "It throws nothing away (`noeviction`).")


def _memory(info: dict[str, Any]) -> Iterator[Finding]:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most and used > most * _NEARLY:
        message = f"It is nearly full: {used / 2**20:.0f} of {most / 2**20:.0f} MiB."
        yield warning("redis memory", message, "Raise `maxmemory`. When it is full, tickets and streams stop.")


def _persistence(info: dict[str, Any], configured: Configured | None) -> Iterator[Finding]:
    broken = [name for name in ("rdb_last_bgsave_status", "aof_last_write_status") if info.get(name, "ok") != "ok"]
    if broken:
        message = f"It cannot write to its disk ({', '.join(broken)}), and may refuse writes for that."
        yield trouble("redis persistence", message, "Look at its log and at the room on its disk.")
    elif int(info.get("aof_enabled", 0)):
        yield ok("redis persistence", "It keeps what it holds (`appendonly yes`).")
    elif configured is not None and not configured.get("save"):
        message = "A restart empties it."
        do = "Set `appendonly yes`. No job is lost without it, but running streams lose the text that nobody has read."
        yield warning("redis persistence", message, do)
    else:
        message = "A restart takes it back to its last snapshot, minutes ago."
        yield warning("redis persistence", message, "Set `appendonly yes`; no job is lost without it.")
