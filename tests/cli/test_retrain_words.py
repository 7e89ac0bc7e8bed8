"""The words of retrain.py and label_image.py answer with today's command, which exists."""

import re

import click
import pytest
from click.testing import CliRunner

from featstore_cli import retrain_hints
from featstore_cli.main import main


def told(*arguments):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize("option", retrain_hints._OPTIONS)
@pytest.mark.parametrize("before", [(), ("extract", "photos"), ("fit",), ("predict", "logistic"), ("views",)])
def test_every_option_of_old_is_answered_wherever_it_stands(option, before):
    for written in (f"--{option}", f"--{option}=5", f"--{option.replace('_', '-')}"):
        if before and any(written.partition("=")[0] in one.opts for one in main.commands[before[0]].params):
            continue
        said = told(*before, written, "5")
        assert f"instead of {written.partition('=')[0]}, use {retrain_hints._OPTIONS[option]}" in said


@pytest.mark.parametrize("name", ["retrain", "retrain.py", "tensorflow/retrain.py", "Retrain"])
def test_retrain_and_its_options_are_answered(name):
    said = told(name, "--image_dir", "flowers", "--how_many_training_steps=500", "--nonsense")
    assert "instead of retrain.py, use `featstore extract FOLDER`, once, and then `featstore fit`\n" in said
    assert "instead of --image_dir, use `featstore extract FOLDER`\n" in said
    assert "instead of --how_many_training_steps, use `featstore fit --head softmax --param steps=N`" in said
    assert "nonsense" not in said


def test_label_image_is_answered():
    assert "use `featstore predict HEAD IMAGE`" in told("label_image", "--graph=g.pb")
    assert "use `featstore predict HEAD IMAGE`" in told("label-image.py")


@pytest.mark.parametrize("arguments", [["frobnicate"], ["fit", "--frobnicate"], ["--frobnicate"]])
def test_other_unknown_words_are_refused_as_ever(arguments):
    assert "No such" in told(*arguments)


def test_every_command_and_option_that_is_named_exists():
    named = re.findall(
        r"`featstore ([^`]*)`",
        " ".join([*retrain_hints._COMMANDS.values(), *retrain_hints._OPTIONS.values()]),
    )
    assert len(named) > 20
    for text in named:
        command, *words = text.split()
        if command == "COMMAND":
            command = "extract"
        known = {name for one in main.commands[command].params for name in (*one.opts, *one.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known


def test_the_value_of_an_option_that_is_known_is_no_old_word():
    context = click.Context(main)
    with pytest.raises(click.UsageError, match="No such option"):
        main.parse_args(context, ["--versions"])
