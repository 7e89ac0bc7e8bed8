"""Replacements for the commands and options of TensorFlow's retrain.py and label_image.py."""

from collections.abc import Sequence

__all__ = ["hint_for_command", "hint_for_option"]

_COMMANDS = {
    "retrain": "`featstore extract FOLDER`, once, and then `featstore fit`",
    "label_image": "`featstore predict HEAD IMAGE`",
}

_EXTRACT = "featstore extract FOLDER"
_VIEWS = f"{_EXTRACT} --views N"
_STEPS = "featstore fit --head softmax --param"
_IN_THE_HEAD = "nothing: a head knows its network and its preprocessing"
_EXPORT = "featstore export HEAD OUT"

_OPTIONS = {
    "image_dir": f"`{_EXTRACT}`",
    "output_graph": f"`{_EXPORT}`; `featstore fit --output NAME` saves the classifier alone",
    "intermediate_output_graphs_dir": "nothing: a fit takes seconds",
    "intermediate_store_frequency": "nothing: a fit takes seconds",
    "output_labels": f"`{_EXPORT}`, which writes labels.txt beside the model",
    "summaries_dir": "`featstore fit --tensorboard FOLDER`",
    "how_many_training_steps": f"`{_STEPS} steps=N`, or the default head, which converges in seconds",
    "learning_rate": f"`{_STEPS} learning_rate=VALUE`, or the default head, which takes none",
    "testing_percentage": "`featstore fit --test SHARE`",
    "validation_percentage": "`featstore fit --validation SHARE`",
    "eval_step_interval": f"`{_STEPS} eval_steps=N`",
    "train_batch_size": f"`{_STEPS} batch_size=N`",
    "test_batch_size": "nothing: all images are scored",
    "validation_batch_size": "nothing: all images are scored",
    "print_misclassified_test_images": "`featstore evaluate HEAD`, which lists them",
    "model_dir": f"`{_EXTRACT} --weights FILE`, or --backbone with the graph's .pb in it; without, Keras "
    "downloads weights and keeps them",
    "bottleneck_dir": f"`{_EXTRACT} --store NAME.fstore`",
    "final_tensor_name": f"`{_EXPORT}`: the output is called probabilities",
    "flip_left_right": f"`{_VIEWS} --flip`",
    "random_crop": f"`{_VIEWS} --random-crop PERCENT`",
    "random_scale": f"`{_VIEWS} --random-scale PERCENT`",
    "random_brightness": f"`{_VIEWS} --random-brightness PERCENT`",
    "architecture": f"`{_EXTRACT} --backbone NAME`; `featstore backbones` lists them",
    "tfhub_module": f"`{_EXTRACT} --backbone NAME`, or the folder of the module's SavedModel",
    "saved_model_dir": f"`{_EXPORT} --format saved_model`",
    "checkpoint_path": "nothing: a fit takes seconds",
    "logging_verbosity": "`featstore COMMAND --quiet`",
    "graph": "`featstore predict HEAD IMAGE`",
    "labels": "nothing: a head knows its classes",
    "image": "`featstore predict HEAD IMAGE`",
    "input_layer": _IN_THE_HEAD,
    "output_layer": f"`{_EXTRACT} --layer NAME`",
    "input_height": f"`{_EXTRACT} --image-size HEIGHTxWIDTH`",
    "input_width": f"`{_EXTRACT} --image-size HEIGHTxWIDTH`",
    "input_mean": _IN_THE_HEAD,
    "input_std": _IN_THE_HEAD,
    "num_top_predictions": "`featstore predict HEAD IMAGE --top N`",
}


def hint_for_command(name: str, arguments: Sequence[str]) -> str | None:
    """Return the replacement of a script, such as ``label_image.py``, and its options; None if unknown."""
    script = name.rpartition("/")[2].removesuffix(".py").replace("-", "_").lower()
    if script not in _COMMANDS:
        return None
    options = [hint_for_option(argument) for argument in arguments if argument.startswith("--")]
    lines = [f"instead of {script}.py, use {_COMMANDS[script]}", *filter(None, options)]
    return "\n".join(lines)


def hint_for_option(option: str) -> str | None:
    """Return the replacement of an option of these scripts; None if unknown.

    Examples
    --------
    >>> hint_for_option("--testing_percentage=20")
    'instead of --testing_percentage, use `featstore fit --test SHARE`'
    """
    option = option.partition("=")[0]
    does = _OPTIONS.get(option.removeprefix("--").replace("-", "_"))
    return does and f"instead of {option}, use {does}"
