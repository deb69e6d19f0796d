"""Published clients of OpenAI's API, unchanged, in environments of their own."""
