"""Finds a Chromium for the tests in this folder, and installs Debian's where that is possible: `make test-browser` runs this file first."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
# Nothing is fetched, reported or kept; the sandbox needs rights that a container seldom gives.
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find() -> str | None:
    """Path of the browser: of the environment variable ``CHROMIUM``, or the first that is installed."""
    if chosen := os.environ.get("CHROMIUM"):
        if not shutil.which(chosen):
            raise SystemExit(
                f"CHROMIUM: expected the path of a Chromium or Chrome, found {chosen!r}, which cannot be run"
            )
        return shutil.which(chosen)
    installed = (shutil.which(name) for name in NAMES)
    return next(filter(None, installed), str(MAC) if MAC.exists() else None)


def install() -> None:
    """Install Debian's package, if this user may."""
    if os.name == "posix" and shutil.which("apt-get") and os.geteuid() == 0:
        print("installing chromium with apt-get", flush=True)
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-qq", "--yes", "--no-install-recommends", "chromium"], check=True)


if __name__ == "__main__":
    if find() is None:
        install()
    if find() is None:
        sys.exit(
            f"make test-browser: no Chromium found (looked for {', '.join(NAMES)}). Install one (Debian, Ubuntu: sudo apt-get install "
            "chromium; macOS: Google Chrome), or name one: make test-browser CHROMIUM=/path/to/chrome"
        )
