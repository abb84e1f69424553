"""HTTP/1.1 over asyncio and httptools: a client and a server protocol."""
