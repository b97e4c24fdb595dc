"""The servers under load, each a real command in a process of its own on a folder of its own.

Owns starting and stopping them and one user to write with; how they are loaded is the benchmarks'.
Both take the same request: a JSON body of 300 bytes that becomes one blob, or one record.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import httpx
import msgspec

BODY_BYTES = 300
START_WITHIN = 30.0
SETTLE_WITHIN = 120.0
_COLLECTION = "messages"
_ADMIN = {"identity": "admin@example.com", "password": "correct horse"}


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where writes go. `body_before` and `body_after` enclose the text of a message."""

    name: str
    host: str
    port: int
    path: str
    headers: Mapping[str, str]
    pid: int
    body_before: str
    body_after: str

    @property
    def url(self) -> str:
        """The server, without a path."""
        return f"http://{self.host}:{self.port}"

    def body(self, marker: str = "") -> bytes:
        """A JSON body of BODY_BYTES whose text begins with `marker`."""
        room = BODY_BYTES - len(self.body_before) - len(self.body_after)
        return f"{self.body_before}{marker.ljust(room, '.')}{self.body_after}".encode()


@contextmanager
def reyna(
    folder: Path, sync: str, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Target]:
    """`reyna up` as it starts by default, with one user who writes `message-v1` blobs.

    No processor that is on reads that schema, so that no language model shares the machine; the
    endpoint named here keeps the one in the process, if it is installed, from being loaded.
    """
    port = free_port()
    no_model = {"REYNA_SYNC": sync, "REYNA_TEXT_BASE_URL": "http://127.0.0.1:9/v1"}
    environment = os.environ | no_model | settings
    command = [program("reyna"), "up", "--port", str(port), "--data", str(folder / "data")]
    with _running(command, folder, environment) as process:
        url = f"http://127.0.0.1:{port}"
        _wait_for(process, f"{url}/health/ready", folder)
        answer = httpx.post(
            f"{url}/api/v1/auth/register",
            json={"email": "bench@example.com", "password": "correct horse"},
        )
        token = answer.raise_for_status().json()["access_token"]
        yield Target(
            name=f"reyna up, sync {sync}",
            host="127.0.0.1",
            port=port,
            path="/api/v1/blobs",
            headers={"Authorization": f"Bearer {token}"},
            pid=process.pid,
            body_before='{"schema_id":"message-v1","data":{"sender_id":"bench","content":"',
            body_after='"}}',
        )


@contextmanager
def pocketbase(folder: Path, *, signed_in: bool = False, max_file: int = 0) -> Iterator[Target]:
    """PocketBase with one collection: open to all, or to a user who is `signed_in`; its records
    have a file where one may have some bytes.
    """
    binary, port, data = program("pocketbase"), free_port(), str(folder / "data")
    admin = [binary, "superuser", "--dir", data, "upsert", *_ADMIN.values()]
    subprocess.run(admin, check=True, capture_output=True)
    command = [binary, "serve", "--dir", data, "--http", f"127.0.0.1:{port}"]
    with _running(command, folder, os.environ) as process:
        url = f"http://127.0.0.1:{port}"
        _wait_for(process, f"{url}/api/health", folder)
        headers = _prepare_pocketbase(url, signed_in=signed_in, max_file=max_file)
        yield Target(
            name=f"PocketBase, {'signed in' if signed_in else 'open to all'}",
            host="127.0.0.1",
            port=port,
            path=f"/api/collections/{_COLLECTION}/records",
            headers=headers,
            pid=process.pid,
            body_before='{"schema_id":"message-v1","sender_id":"bench","content":"',
            body_after='"}',
        )


def settle(target: Target, within: float = SETTLE_WITHIN) -> float:
    """Wait until all views of a `reyna up` have caught up with the log; answers the seconds."""
    began = time.monotonic()
    while time.monotonic() - began < within:
        ready = httpx.get(f"{target.url}/health/ready", timeout=SETTLE_WITHIN).json()
        if all(part.get("lag") == 0 for part in ready["projections"].values()):
            return time.monotonic() - began
        time.sleep(0.05)
    raise SystemExit(f"The views of {target.name} did not catch up in {within:.0f} s.")


def processor_seconds(pid: int) -> float:
    """What a process, all its threads together, has had of the processors; NaN but on Linux."""
    try:
        # How Linux numbers the clock of another process: clock_getcpuclockid(3).
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return math.nan


def program(name: str) -> str:
    """The path of a command, in this environment or on PATH."""
    here = str(Path(sys.executable).parent)
    found = shutil.which(name, path=os.pathsep.join([here, os.environ.get("PATH", "")]))
    if found is None:
        raise SystemExit(f"The command {name} is missing: see bench/README.md.")
    return found


def _prepare_pocketbase(url: str, *, signed_in: bool, max_file: int) -> dict[str, str]:
    """Make the collection; answers the headers that a writer sends."""
    with httpx.Client(base_url=f"{url}/api") as client:
        answer = client.post(
            "/collections/_superusers/auth-with-password", json=_ADMIN
        ).raise_for_status()
        client.headers["Authorization"] = answer.json()["token"]
        texts = [{"name": name, "type": "text"} for name in ("schema_id", "sender_id", "content")]
        created = {"name": "created", "type": "autodate", "onCreate": True}
        file = {"name": "file", "type": "file", "maxSelect": 1, "maxSize": max_file}
        collection = {
            "name": _COLLECTION,
            "type": "base",
            "listRule": "",
            "createRule": '@request.auth.id != ""' if signed_in else "",
            "fields": [*texts, created, *([file] if max_file else [])],
        }
        client.post("/collections", json=collection).raise_for_status()
        if not signed_in:
            return {}
        user = {"email": "bench@example.com", "password": _ADMIN["password"]}
        account = user | {"passwordConfirm": user["password"]}
        client.post("/collections/users/records", json=account).raise_for_status()
        login = {"identity": user["email"], "password": user["password"]}
        answer = client.post("/collections/users/auth-with-password", json=login).raise_for_status()
        return {"Authorization": answer.json()["token"]}


@contextmanager
def _running(
    command: list[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(START_WITHIN)


def _wait_for(process: subprocess.Popen[bytes], url: str, folder: Path) -> None:
    deadline = time.monotonic() + START_WITHIN
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(url).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"It did not start:\n{(folder / 'server.log').read_text()}")


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
