"""Request schemas in the manner of the engines' own: open, with unions of messages and `$defs`."""

from typing import Any

from jobs.records import Json

NULL: Json = {"type": "null"}


def optional(*options: Json) -> Json:
    return {"anyOf": [*options, NULL]}


def message(role: str, content: Json, **more: Any) -> Json:
    properties = {"role": {"const": role, "type": "string"}, "content": content}
    return {"type": "object", "properties": properties, "required": ["role", "content"], **more}


TEXT: Json = {"type": "string"}
TEXT_PART: Json = {
    "type": "object",
    "properties": {"type": {"const": "text", "type": "string"}, "text": TEXT},
    "required": ["type", "text"],
}
IMAGE_PART: Json = {
    "type": "object",
    "properties": {
        "type": {"const": "image_url", "type": "string"},
        "image_url": {"type": "object", "properties": {"url": TEXT}, "required": ["url"]},
    },
    "required": ["type", "image_url"],
}
PARTS: Json = {"anyOf": [{"$ref": "#/$defs/TextPart"}, {"$ref": "#/$defs/ImagePart"}]}
SAMPLING: Json = {
    "model": optional(TEXT),
    "temperature": optional({"type": "number"}),
    "top_p": optional({"type": "number"}),
    "n": optional({"type": "integer"}),
    "max_tokens": optional({"type": "integer"}),
    "stop": optional(TEXT, {"type": "array", "items": TEXT, "maxItems": 4}),
    "seed": optional({"type": "integer"}),
    "logit_bias": optional({"type": "object", "additionalProperties": {"type": "number"}}),
    "stream": optional({"type": "boolean"}),
    "stream_options": optional({"type": "object"}),
    "user": optional(TEXT),
    "top_k": optional({"type": "integer"}),
    "min_p": optional({"type": "number", "minimum": 0, "maximum": 1}),
    "priority": {"type": "integer", "default": 0},
    "request_id": TEXT,
    "cache_salt": optional(TEXT),
}

CHAT: Json = {
    "type": "object",
    "additionalProperties": True,
    "required": ["messages"],
    "properties": {
        **SAMPLING,
        "messages": {
            "type": "array",
            "items": {
                "anyOf": [
                    {"$ref": "#/$defs/System"},
                    {"$ref": "#/$defs/User"},
                    {"$ref": "#/$defs/Assistant"},
                    {"$ref": "#/$defs/Tool"},
                    {"$ref": "#/$defs/Custom"},
                ]
            },
        },
        "max_completion_tokens": optional({"type": "integer"}),
        "tools": optional({"type": "array", "items": {"$ref": "#/$defs/ToolDefinition"}}),
        "tool_choice": optional(
            {"const": "none", "type": "string"}, {"const": "auto", "type": "string"}, {"type": "object"}
        ),
        "response_format": optional({"$ref": "#/$defs/ResponseFormat"}),
        "reasoning_effort": optional({"enum": ["low", "medium", "high"], "type": "string"}),
    },
    "$defs": {
        "TextPart": TEXT_PART,
        "ImagePart": IMAGE_PART,
        "System": message("system", {"anyOf": [TEXT, {"type": "array", "items": {"$ref": "#/$defs/TextPart"}}]}),
        "User": message("user", {"anyOf": [TEXT, {"type": "array", "items": PARTS}]}),
        "Assistant": message("assistant", optional(TEXT), required=["role"]),
        "Tool": message("tool", TEXT, required=["role", "content", "tool_call_id"]),
        "Custom": {
            "type": "object",
            "properties": {"role": TEXT, "content": {"anyOf": [TEXT, {"type": "array", "items": PARTS}]}},
            "required": ["role"],
        },
        "ToolDefinition": {
            "type": "object",
            "properties": {
                "type": {"const": "function", "type": "string"},
                "function": {"type": "object", "properties": {"name": TEXT}, "required": ["name"]},
            },
            "required": ["function"],
        },
        "ResponseFormat": {
            "type": "object",
            "properties": {"type": {"enum": ["text", "json_object", "json_schema"], "type": "string"}},
            "required": ["type"],
        },
    },
}

COMPLETIONS: Json = {
    "type": "object",
    "additionalProperties": True,
    "properties": {
        **SAMPLING,
        "prompt": optional(TEXT, {"type": "array", "items": TEXT}, {"type": "array", "items": {"type": "integer"}}),
    },
}

RESPONSES: Json = {
    "type": "object",
    "additionalProperties": True,
    "required": ["input"],
    "properties": {
        "model": optional(TEXT),
        "input": {"anyOf": [TEXT, {"type": "array", "items": {"type": "object"}}]},
        "background": optional({"type": "boolean"}),
        "previous_response_id": optional(TEXT),
        "stream": optional({"type": "boolean"}),
        "max_output_tokens": optional({"type": "integer"}),
        "metadata": optional({"type": "object", "additionalProperties": TEXT}),
        "service_tier": {"enum": ["auto", "default", "flex", "scale", "priority"], "type": "string"},
        "store": optional({"type": "boolean"}),
        "text": optional({"type": "object"}),
    },
}

MESSAGES: Json = {
    "type": "object",
    "required": ["model", "messages", "max_tokens"],
    "properties": {
        "model": TEXT,
        "messages": {"type": "array", "items": {"type": "object"}},
        "max_tokens": {"type": "integer"},
        "metadata": optional({"type": "object"}),
        "stream": optional({"type": "boolean"}),
    },
}

EMBEDDINGS: Json = {
    "anyOf": [{"$ref": "#/$defs/ByText"}, {"$ref": "#/$defs/ByChat"}],
    "$defs": {
        "ByText": {
            "type": "object",
            "properties": {
                "model": optional(TEXT),
                "input": {"anyOf": [TEXT, {"type": "array", "items": TEXT}]},
                "priority": {"type": "integer"},
            },
            "required": ["input"],
        },
        "ByChat": {
            "type": "object",
            "properties": {"model": optional(TEXT), "messages": {"type": "array", "items": {"type": "object"}}},
            "required": ["messages"],
        },
    },
}

ENDPOINTS: dict[str, Json] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/responses": RESPONSES,
    "/v1/messages": MESSAGES,
}
