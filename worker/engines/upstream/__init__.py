"""An engine that forwards to servers which somebody else runs, by OpenAI's API."""
