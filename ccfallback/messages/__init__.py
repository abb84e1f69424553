"""What the Messages API is: bodies, blocks, thinking, tools, streams. Pure."""
