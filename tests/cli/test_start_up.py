import re
import shutil
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from featstore_cli.main import main


def modules_after(code):
    """Run code in a new process and return the names of the modules that it loaded."""
    program = f"import sys\n{code}\nprint('modules', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_help_loads_nothing_heavy():
    loaded = modules_after(
        "from featstore_cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    )
    assert "featstore_cli.main" in loaded
    packages = {name.partition(".")[0] for name in loaded} - modules_after("")
    assert packages - sys.stdlib_module_names == {"click", "featstore", "featstore_cli", "lazy_loader"}


@pytest.mark.parametrize(
    "name",
    [
        *("FeatureStore", "fit", "evaluate", "Head", "HashKFold", "known_backbones", "extract"),
        *("find_duplicates", "find_suspects", "report"),
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


def test_a_long_help_lists_its_options_in_groups():
    for name, command in main.commands.items():
        if sum(isinstance(param, click.Option) for param in command.params) > 8:
            shown = CliRunner().invoke(main, [name, "--help"]).stdout
            titles = re.findall(r"^(\w.*):$", shown, re.M)
            assert titles[0] == "Data" or name in ("views", "import-head"), name
            assert titles[-1] == "Options", name
            assert len(titles) >= 3, name
            general = shown[shown.index("\nOptions:\n") :]
            assert len(re.findall(r"^  -.*", general, re.M)) <= 4, name


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
