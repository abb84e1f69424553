"""The programs that are measured: started on a core of their own, watched through /proc."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.upstream import ANTHROPIC_WHOLE, OVERLOADED

CORES: Final = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
OURS: Final = {CORES[0]}
"""Where the client and the upstream run."""
PROXYS: Final = {CORES[-1]}
"""Where the proxies run, one at work at a time."""

NGINX: Final = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def free_ports(count: int) -> list[int]:
    """Free ports."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@dataclass
class Program:
    """A process and its children."""

    process: "subprocess.Popen[bytes]"

    def pids(self) -> list[int]:
        """Its own, and those of what it started."""
        pid = self.process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            children = []
        return [pid, *map(int, children)]

    def cpu(self) -> float:
        """Seconds of CPU so far, to the nanosecond.

        The ticks in `/proc/<pid>/stat` cannot be used here: they are sampled, and a stream of a
        hundred events a second runs in step with the sampling.
        """
        return sum(time.clock_gettime(clock_of(pid)) for pid in self.pids())

    def resident(self) -> float:
        """MiB in memory."""
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
        return total / 1024

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


def start(
    command: Sequence[str], cores: set[int], environ: Mapping[str, str] | None = None
) -> Program:
    """Start a program; its talk goes nowhere."""
    pin = (lambda: os.sched_setaffinity(0, cores)) if hasattr(os, "sched_setaffinity") else None
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=pin,
        env={"PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent", **(environ or {})},
    )
    return Program(process)


def wait_for(port: int, seconds: float = 15.0) -> None:
    """Return when the port accepts connections."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)
        else:
            return


def start_upstream(port: int, files: Sequence[str] = ()) -> Program:
    """The scripted upstream."""
    command = [sys.executable, "-m", "tests.benchmarks.upstream", str(port), *files]
    program = start(command, OURS)
    wait_for(port)
    return program


def ccfallback_files(folder: Path, name: str, config: str, port: int) -> dict[str, str]:
    """The variables that name the files of a ccfallback with this configuration."""
    path = folder / f"{name}.toml"
    path.write_text(f"[server]\nport = {port}\n{config}")
    path.chmod(0o600)
    return {
        "CCFALLBACK_CONFIG": str(path),
        "CCFALLBACK_STATE": str(folder / f"{name}.json"),
        "CCFALLBACK_LOG_FILE": str(folder / f"{name}.jsonl"),
    }


def start_nginx(folder: Path, servers: str, cores: set[int]) -> Program:
    """nginx with these upstreams and servers, one worker."""
    assert NGINX is not None
    folder.mkdir(exist_ok=True)
    path = folder / "nginx.conf"
    path.write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit;\n"
        "events { worker_connections 8192; }\n"
        "http {\n"
        "  access_log off; client_max_body_size 64m; client_body_buffer_size 2m;\n"
        f"  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        f"  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n"
        f"  scgi_temp_path {folder}/scgi;\n"
        "  keepalive_requests 100000000; keepalive_timeout 600s;\n"
        '  proxy_http_version 1.1; proxy_set_header Connection "";\n'
        "  proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 600s;\n"
        f"{servers}\n}}\n"
    )
    return start([NGINX, "-e", "stderr", "-p", str(folder), "-c", str(path)], cores)


def nginx_upstream(whole: int, refusing: int) -> str:
    """Servers that answer at once: upstreams written in C."""
    return (
        f"server {{ listen 127.0.0.1:{whole} backlog=2048; default_type application/json;"
        f" location / {{ return 200 '{ANTHROPIC_WHOLE.decode()}'; }} }}\n"
        f"server {{ listen 127.0.0.1:{refusing} backlog=2048; default_type application/json;"
        f" location / {{ return 429 '{OVERLOADED.decode()}'; }} }}"
    )


def nginx_proxy(name: str, port: int, to: Sequence[int], *, tls: str = "") -> str:
    """A server that passes everything on; with two upstreams, to the second after a 429."""
    upstreams = f"server 127.0.0.1:{to[0]} max_fails=0;"
    upstreams += "".join(f" server 127.0.0.1:{other} backup;" for other in to[1:])
    passing = f"proxy_pass {'https' if tls else 'http'}://{name};"
    if tls:
        passing += f" proxy_ssl_verify on; proxy_ssl_trusted_certificate {tls};"
        passing += " proxy_ssl_name localhost; proxy_ssl_session_reuse on;"
    if len(to) > 1:
        passing += " proxy_next_upstream error timeout http_429 non_idempotent;"
    return (
        f"upstream {name} {{ {upstreams} keepalive 512; }}\n"
        f"server {{ listen 127.0.0.1:{port} backlog=2048; location / {{ {passing} }} }}"
    )


def clock_of(pid: int) -> int:
    """The clock of a process's CPU time, which Linux counts as it is spent (clock_getres(2))."""
    return ~pid << 3 | 2
