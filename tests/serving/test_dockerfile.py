"""What the Dockerfile names is there; `make image-steps` follows its steps."""

import json
import shlex
import subprocess
import sys
import tomllib

import click
import pytest

from featstore_cli.main import main
from image_steps import ROOT, instructions


@pytest.fixture(scope="module")
def steps():
    return instructions()


def test_the_entry_point_is_a_command_line_that_featstore_takes(steps):
    program, command, *options = json.loads(steps["ENTRYPOINT"])
    assert program == "featstore"
    serve = main.commands[command]
    context = serve.make_context(command, [*options, *json.loads(steps["CMD"])])
    assert context.params["host"] == "0.0.0.0"
    assert context.params["port"] == int(steps["EXPOSE"])
    assert isinstance(serve, click.Command)


def test_the_health_check_asks_the_server(steps, server):
    words = json.loads(steps["HEALTHCHECK"].partition(" CMD ")[2])
    address = f"http://127.0.0.1:{steps['EXPOSE']}"
    assert address in words[-1]
    words[0] = sys.executable
    asks = [word.replace(address, server) for word in words]
    assert subprocess.run(asks, check=False).returncode == 0
    asks[-1] = asks[-1].replace("/healthz", "/none")
    assert subprocess.run(asks, check=False, capture_output=True).returncode != 0


def test_it_installs_pinned_extras_and_ends_as_a_user_without_rights(steps):
    pip, *others = (shlex.split(part) for part in steps["RUN"].split("&&"))
    extras = pip[-1].partition("[")[2].rstrip("]").split(",")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras) <= set(project["optional-dependencies"])
    assert "serve" in extras
    assert pip[pip.index("--constraint") + 1].endswith("/constraints.txt")
    assert "--no-cache-dir" in pip
    made = next(words for words in others if words[0] == "useradd")
    assert steps["USER"] == made[made.index("--uid") + 1] == "1000"
    assert steps["ENV"] == f"FEATSTORE_CACHE={others[-1][-1]}"
    assert not steps["FROM"].endswith(":latest")
