"""Model servers for tests: the answers of each kind, on a port that the system chooses."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import msgspec

Answers = Mapping[str, tuple[int, Any]]
"""Status and body by path; the body is JSON unless it is text."""

REFUSAL: Final = {"type": "error", "error": {"type": "invalid_request_error", "message": "model"}}

OLLAMA: Final[Answers] = {
    "/": (200, "Ollama is running"),
    "/api/version": (200, {"version": "0.14.2"}),
    "/api/tags": (
        200,
        {
            "models": [
                {"name": "nomic-embed-text:latest"},
                {"name": "glm-5.3:cloud", "remote_host": "https://ollama.com"},
                {"name": "qwen3-coder:30b"},
                {"name": "gemma4:latest"},
            ]
        },
    ),
    "/api/ps": (200, {"models": [{"name": "gemma4:latest", "context_length": 65536}]}),
    "/api/show": (200, {"parameters": "num_ctx 40960", "license": "x" * 100_000}),
    "/v1/messages": (400, REFUSAL),
}
LLAMA: Final[Answers] = {
    "/": (200, "<html>llama.cpp</html>"),
    "/v1/models": (200, {"data": [{"id": "q.gguf", "owned_by": "llamacpp", "meta": {}}]}),
    "/props": (200, {"default_generation_settings": {"n_ctx": 49152}}),
    "/v1/messages": (500, REFUSAL),
}
VLLM: Final[Answers] = {
    "/v1/models": (
        200,
        {"data": [{"id": "Qwen/Qwen3", "owned_by": "vllm", "max_model_len": 131072}]},
    ),
    "/v1/messages": (422, REFUSAL),
}
SGLANG: Final[Answers] = {
    "/v1/models": (200, {"data": [{"id": "q", "owned_by": "sglang", "max_model_len": 40960}]}),
    "/v1/messages": (400, REFUSAL),
}
STUDIO: Final[Answers] = {
    "/": (200, {"error": "Unexpected endpoint or method. (GET /)"}),
    "/v1/models": (200, {"data": [{"id": "a", "owned_by": "organization_owner"}]}),
    "/api/v0/models": (
        200,
        {
            "data": [
                {"id": "e", "arch": "bert", "type": "embeddings", "state": "loaded"},
                {"id": "a", "arch": "q", "type": "llm", "state": "not-loaded"},
                {
                    "id": "b",
                    "arch": "q",
                    "type": "llm",
                    "state": "loaded",
                    "loaded_context_length": 65536,
                },
            ]
        },
    ),
    "/v1/messages": (400, REFUSAL),
}


@contextmanager
def serve(answers: Answers) -> Iterator[tuple[int, list[str]]]:
    """A server with these answers: its port, and the requests that it got, as `GET /path`."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = answers.get(self.path, (404, {"detail": "Not Found"}))
            data = body.encode() if isinstance(body, str) else msgspec.json.encode(body)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", body)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_arguments: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port, requests
        finally:
            server.shutdown()
            thread.join()
