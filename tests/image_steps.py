"""The steps of the Dockerfile, followed without Docker: `make image-steps`, or `python tests/image_steps.py FOLDER MODEL`.

In a new environment in FOLDER it runs the image's pip line on what the image copies, starts its entry point on an exported
MODEL as a user without rights where this one is root, and asks by the image's health check. What a base image brings, and that
Docker builds it, is not checked.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def instructions() -> dict[str, str]:
    """Return the last of each kind of instruction, lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in lines}


def main(folder: str, model: str) -> None:
    steps, home = instructions(), Path(folder).resolve()
    shutil.rmtree(home, ignore_errors=True)
    venv.create(home / "venv", with_pip=True)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = shutil.ignore_patterns(*ignored, ".git", ".venv*", "build")
    shutil.copytree(ROOT, home / "featstore", ignore=copied, ignore_dangling_symlinks=True)
    pip = shlex.split(steps["RUN"].split("&&")[0].replace("/tmp/featstore", str(home / "featstore")))
    assert pip[0] == "pip"
    subprocess.run([home / "venv/bin/python", "-m", *pip], check=True)
    shutil.rmtree(home / "featstore")
    served, cache = home / "models" / "model", home / "cache"
    shutil.copytree(model, served)
    cache.mkdir()
    is_root = os.getuid() == 0
    if is_root:
        shutil.chown(cache, "nobody")
    command = [*json.loads(steps["ENTRYPOINT"]), str(served), "--port", "8519"]
    command[0] = str(home / "venv/bin" / command[0])
    environment = {
        "FEATSTORE_CACHE": str(cache),
        "FEATSTORE_TOKEN": "s3cret",
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
    }
    as_user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if is_root else {}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, cwd="/", **as_user
    ) as server:
        print(server.stdout.readline().strip())
        options, _, check = steps["HEALTHCHECK"].partition(" CMD ")
        words = [word.replace(":8501", ":8519") for word in json.loads(check)]
        words[0] = str(home / "venv/bin" / words[0])
        subprocess.run(words, check=True, env=environment, **as_user)
        print(f"healthy ({options}), as {'nobody' if is_root else 'this user'}")
        server.terminate()
        assert server.wait(60) == 0
    started = time.monotonic()
    del environment["FEATSTORE_TOKEN"]
    refused = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd="/", check=False, **as_user
    )
    assert refused.returncode == 1
    assert "give a token" in refused.stderr
    print(f"without a token refused in {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
