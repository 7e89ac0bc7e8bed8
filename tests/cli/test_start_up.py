import shutil
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from featstore_cli.main import main


def modules_after(code):
    """Run code in a new process and return the names of the modules that it loaded."""
    program = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def test_help_loads_nothing_heavy():
    loaded = modules_after(
        "from featstore_cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    )
    assert "featstore_cli.main" in loaded
    assert not loaded & {"numpy", "h5py", "PIL", "sklearn", "tensorflow", "keras", "openvino"}


def test_help_comes_at_once():
    def seconds():
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "featstore_cli", "--help"], check=True, capture_output=True)
        return time.perf_counter() - started

    def bare_python():
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import click"], check=True, capture_output=True)
        return time.perf_counter() - started

    # A ratio, since the machine may be busy: little more than starting Python and click.
    assert min(seconds() for _ in range(5)) < 4 * min(bare_python() for _ in range(5))


@pytest.mark.parametrize(
    "name",
    [
        *("FeatureStore", "fit", "evaluate", "Head", "HashKFold", "known_backbones", "extract"),
        *("find_duplicates", "find_suspects"),
    ],
)
def test_a_public_name_comes_without_tensorflow(name):
    loaded = modules_after(f"import featstore\nfeatstore.{name}")
    assert "featstore" in loaded
    assert not loaded & {"tensorflow", "keras", "openvino"}


def test_help_lists_every_command_once_by_task_and_the_daily_job_first():
    text = CliRunner().invoke(main, ["--help"]).stdout
    listed = [line.split()[0] for line in text.splitlines() if line.startswith("  ") and line[2:3].isalpha()]
    commands = [name for name in listed if name in main.commands]
    assert commands[:5] == ["extract", "fit", "evaluate", "predict", "export"]
    assert sorted(commands) == sorted(main.commands)
    assert all(command.short_help for command in main.commands.values())


@pytest.mark.parametrize("module", ["featstore", "featstore_cli"])
def test_the_command_line_starts_as_a_module(module):
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("featstore ")
    failed = subprocess.run(
        [sys.executable, "-m", module, "info", "nowhere"], capture_output=True, check=False
    )
    assert failed.returncode == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_completion_is_one_that_the_shell_takes(shell):
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_FEATSTORE_COMPLETE={shell}_complete" in result.stdout
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=result.stdout, text=True, check=True)


def test_completion_completes(monkeypatch):
    environment = {"_FEATSTORE_COMPLETE": "bash_complete", "COMP_WORDS": "featstore ex", "COMP_CWORD": "1"}
    result = CliRunner().invoke(main, [], env=environment, prog_name="featstore")
    assert result.stdout.split() == ["plain,extract", "plain,export", "plain,extend"]


def test_completion_of_an_unknown_shell_names_those_that_are_known():
    result = CliRunner().invoke(main, ["completion", "tcsh"])
    assert result.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in result.stderr
