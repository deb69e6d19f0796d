"""Which of the engine's paths a tenant may reach, and which body fields only we set. Written once."""

from typing import Final

INFERENCE: Final = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/responses/input_tokens",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/embeddings",
        "/v1/score",
        "/score",
        "/v1/rerank",
        "/v2/rerank",
        "/rerank",
        "/classify",
        "/pooling",
        "/tokenize",
        "/detokenize",
    }
)
"""Inference only: vLLM's app also carries its administration, which no tenant reaches."""

STREAMING: Final = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"})
"""Where a request with `stream` is answered event by event."""

MULTIPART: Final = frozenset({"/v1/audio/transcriptions", "/v1/audio/translations"})
"""Known, and refused by name: their bodies are no JSON."""

STEERING: Final = frozenset(
    {"priority", "request_id", "kv_transfer_params", "ec_transfer_params", "session_id", "cache_salt"}
)
"""Body fields that steer the engine for others; only the worker sets them."""

ARGUMENTS: Final = "vllm_xargs"
"""vLLM's door to whatever it reads from a request beside the fields of its schema."""

STEERING_ARGUMENTS: Final = STEERING | {"kv_cache_report_mode"}
"""What would steer the engine from there."""

OURS: Final = frozenset({"expires_after", "timeout", "webhook"})
"""Body fields that mean something to Longhaul and nothing to the engine: taken out before the body is stored."""
