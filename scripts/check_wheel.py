"""Builds the wheel, installs it alone in a fresh environment, starts it and looks from outside.

Owns the proof that what is distributed works without the checkout: packages, schemas, entry points,
command and page. What the program does once it runs is for the tests to say.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

CHECKOUT = Path(__file__).resolve().parent.parent
UV = os.environ.get("UV", "uv")
READY_WITHIN = 60.0  # seconds, generous: a busy machine is not a broken wheel
STOP_WITHIN = 30.0  # seconds


class CheckError(Exception):
    """The wheel is not what it should be; the message says in what."""


def main() -> None:
    """Run the check; exit 1 with one line if it fails."""
    with TemporaryDirectory(prefix="reyna-wheel-") as name:
        folder = Path(name)
        try:
            command = install(build(folder), folder)
            check(command, folder)
        except CheckError as error:
            sys.exit(f"wheel: {error}")
    print("wheel: built, installed, started, answered and stopped")


def build(folder: Path) -> Path:
    """Build the wheel of this checkout into `folder` and return its path."""
    run(UV, "build", "--quiet", "--wheel", "--out-dir", folder / "dist", CHECKOUT)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """Install the wheel in a fresh environment; return the path of its command `reyna`."""
    environment = folder / "venv"
    run(UV, "venv", "--quiet", "--python", sys.executable, environment)
    run(UV, "pip", "install", "--quiet", "--python", environment, wheel)
    return environment / "bin" / "reyna"


def run(*command: str | Path) -> None:
    """Run a command away from the checkout, and raise CheckError if it fails."""
    done = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise CheckError(f"{' '.join(map(str, command))} failed with status {done.returncode}")


def check(command: Path, folder: Path) -> None:
    """Start `reyna up` on a free port, check its answers, stop it and check its exit status."""
    port = free_port()
    running = subprocess.Popen(
        [command, "up", "--port", str(port), "--data", folder / "data"],
        cwd=folder,
        env=bare_environment(),
        stdin=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(running, url)
        check_page(url)
        check_problem(url)
        running.send_signal(signal.SIGTERM)
        status = running.wait(STOP_WITHIN)
        if status != 0:
            raise CheckError(f"`reyna up` ended with status {status} after SIGTERM")
    except subprocess.TimeoutExpired:
        raise CheckError(f"`reyna up` did not end within {STOP_WITHIN:g} s of SIGTERM") from None
    finally:
        running.kill()
        running.wait()


def bare_environment() -> dict[str, str]:
    """The environment without what would let this checkout or its settings leak in."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("REYNA_", "PYTHON", "OPENAI_", "VIRTUAL_ENV"))
    }


def free_port() -> int:
    """A port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_ready(running: subprocess.Popen[bytes], url: str) -> None:
    """Ask `/health/ready` until it answers 200; raise CheckError if the program ends or is late."""
    deadline = time.monotonic() + READY_WITHIN
    last = "no answer"
    while time.monotonic() < deadline:
        if running.poll() is not None:
            raise CheckError(f"`reyna up` ended at start with status {running.returncode}")
        try:
            status, _, body = get(f"{url}/health/ready")
        except OSError as error:
            last = str(error)
        else:
            if status == 200:
                return
            last = f"{status} {body}"
        time.sleep(0.1)
    raise CheckError(f"/health/ready was not 200 within {READY_WITHIN:g} s: {last}")


def check_page(url: str) -> None:
    """`/` is the built page, and the script it names is there."""
    status, media_type, body = get(f"{url}/")
    if status != 200 or not media_type.startswith("text/html") or 'id="root"' not in body:
        raise CheckError(f"/ is not the page: {status} {media_type} {body[:200]!r}")
    script = body.partition('<script type="module"')[2].partition('src="')[2].partition('"')[0]
    status, media_type, _ = get(f"{url}{script}")
    if status != 200 or "javascript" not in media_type:
        raise CheckError(f"the page's script {script!r} is not there: {status} {media_type}")


def check_problem(url: str) -> None:
    """The API refuses a request without a token, with a problem document."""
    status, media_type, body = get(f"{url}/api/v1/blobs")
    if status != 401 or not media_type.startswith("application/problem+json"):
        raise CheckError(f"/api/v1/blobs without a token: {status} {media_type} {body[:200]!r}")


def get(url: str) -> tuple[int, str, str]:
    """GET a URL; return status, media type and body whatever the status."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.headers.get("content-type", ""), answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("content-type", ""), error.read().decode()


if __name__ == "__main__":
    main()
