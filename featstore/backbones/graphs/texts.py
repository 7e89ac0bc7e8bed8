"""Embeddings of texts by the text tower of a network such as CLIP.

Files of strangers are parsed here: only the child process (``child.py``) calls it.
"""

import json
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.engines.openvino import import_openvino, openvino_core
from featstore.backbones.graphs.cutting import find_output, needed_inputs, read_graph
from featstore.errors import BackboneError

__all__ = ["embed_texts"]

# The embedding of a text, and the constant by which cosines are multiplied, as Hugging Face calls them.
_EMBEDDING, _LOGIT_SCALE = "text_embeds", "logit_scale"
_LARGEST_CONFIG = 2**22
_MOST_TOKENS = 4096


def embed_texts(task: dict[str, Any]) -> dict[str, Any]:
    """Write the embeddings of texts to a file, one row each; return the logit scale where it is stated."""
    model = read_graph(task["path"], task["kind"])
    scale = _logit_scale(model)
    names = [name for one in model.outputs for name in one.get_names()]
    output, name = find_output(model, task["output"] or (_EMBEDDING if _EMBEDDING in names else None))
    inputs = needed_inputs([output], model)
    fixed = _fixed_length(inputs)
    tokens = _tokens(task, fixed)
    openvino = import_openvino()
    tower = openvino.Model([output], [one.node for one in inputs], "texts")
    if any(one.partial_shape[0].is_static for one in inputs):
        tower.reshape({one: [1, *[*one.partial_shape][1:]] for one in tower.inputs})
    compiled = openvino_core().compile_model(tower, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    rows = []
    for ids, mask in tokens:
        fed = {at: _fed(one, ids, mask) for at, one in enumerate(inputs)}
        found = np.asarray(compiled(fed)[0], np.float32)
        if found.ndim != 2 or len(found) != 1:
            raise BackboneError(
                f"{name!r} has the shape {found.shape} for a text, expected (1, d); choose another "
                "--text-output"
            )
        rows.append(found[0])
    embeddings = np.stack(rows)
    if not np.isfinite(embeddings).all():
        raise BackboneError("its embeddings are not finite")
    np.save(task["target"], embeddings)
    return {"logit_scale": scale}


def _fixed_length(inputs: list[Any]) -> int | None:
    """Check the inputs of a text tower, and return the number of tokens that it takes, None for any."""
    kinds = [_kind(one) for one in inputs]
    if kinds.count("ids") != 1 or None in kinds:
        shown = ", ".join(f"{one.get_any_name()} {one.partial_shape}" for one in inputs) or "none"
        raise BackboneError(
            f"it is no text tower: expected the input input_ids (n, tokens), and at most an attention_mask; "
            f"found {shown}"
        )
    lengths = {one.partial_shape[1].get_length() for one in inputs if one.partial_shape[1].is_static}
    return lengths.pop() if lengths else None


def _kind(one: Any) -> str | None:
    """Return what an input takes: ids, or their mask."""
    names, shape = " ".join(one.get_names()), one.partial_shape
    if shape.rank.is_dynamic or shape.rank.get_length() != 2 or "i" not in str(one.element_type.to_string()):
        return None
    return (
        "mask" if "mask" in names else "ids" if "id" in names or "token" in names or "text" in names else None
    )


def _fed(one: Any, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[Any]:
    values = mask if _kind(one) == "mask" else ids
    return values[np.newaxis].astype(one.element_type.to_dtype())


def _tokens(task: dict[str, Any], fixed: int | None) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the tokens of each text and their mask, padded where the tower takes a fixed number."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(task["tokenizer"])
    except Exception as error:  # the library has no class of errors of its own
        raise BackboneError(f"{task['tokenizer']} is no tokenizer.json: {error}") from error
    config = _beside(task["tokenizer"])
    padding = tokenizer.padding or {}
    length = fixed or task["length"] or padding.get("length")
    if fixed and task["length"] not in (None, fixed):
        raise BackboneError(f"it takes {fixed} tokens of a text; found --text-length {task['length']}")
    most = length or config.get("model_max_length")
    tokenizer.no_padding()
    if isinstance(most, int) and 0 < most <= _MOST_TOKENS:
        tokenizer.enable_truncation(most)
    pad = padding.get("pad_id", tokenizer.token_to_id(_text(config.get("pad_token")) or ""))
    found = []
    for encoding in tokenizer.encode_batch(task["texts"]):
        missing = (length or 0) - len(encoding.ids)
        if missing > 0 and pad is None:
            raise BackboneError(
                f"texts are padded to {length} tokens, and no token for it is stated; put the "
                f"tokenizer_config.json of the model beside {task['tokenizer']}"
            )
        ids = [*encoding.ids, *[pad] * missing]
        found.append(
            (np.array(ids, np.int64), np.array([1] * len(encoding.ids) + [0] * max(missing, 0), np.int64))
        )
    return found


def _beside(tokenizer: str) -> dict[str, Any]:
    """Return what a tokenizer_config.json beside a tokenizer states, if there is one."""
    path = os.path.join(os.path.dirname(tokenizer), "tokenizer_config.json")
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            return dict(json.loads(file.read(_LARGEST_CONFIG)))
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise BackboneError(f"{path} cannot be read: {error}") from error


def _text(token: Any) -> str | None:
    """Return a token, which Hugging Face writes as a text or with properties."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def _logit_scale(model: Any) -> float | None:
    """Return the factor of cosines: its logarithm is a constant of the network."""
    for node in model.get_ops():
        if node.get_type_name() == "Constant" and _LOGIT_SCALE in node.get_friendly_name():
            values = np.asarray(node.get_data(), np.float64).ravel()
            if len(values) == 1:
                return float(np.exp(values[0]))
    return None
