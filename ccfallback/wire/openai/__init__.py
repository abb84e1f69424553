"""The OpenAI Chat Completions format, as many providers speak it."""
