"""A pair of towers as CLIP's in ONNX: the mean colour of an image, and of the colours that a text names."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIDE = 16
WORDS = ("[UNK]", "[PAD]", "a", "photo", "of", "red", "green", "blue", "yellow")
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (0.7, 0.7, 0)}
LOGIT_SCALE = 20.0


def _save(path, nodes, inputs, outputs, arrays):
    graph = helper.make_graph(
        nodes,
        "tower",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9), str(path))


def write_image_tower(path):
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["means"]),
        helper.make_node("Flatten", ["means"], ["image_embeds"]),
    ]
    shape = ["n", 3, SIDE, SIDE]
    _save(path, nodes, [("pixel_values", TensorProto.FLOAT, shape)], [("image_embeds", ["n", 3])], {})


def write_text_tower(path, *, length="tokens", n_features=3):
    """Write the mean of the words that a mask leaves, and a second output with the logit scale in it."""
    table = np.full((len(WORDS), n_features), 0.05, np.float32)
    for word, colour in COLOURS.items():
        table[WORDS.index(word), :3] = colour
    # What would be added to the colours if it were not masked.
    table[WORDS.index("[PAD]")] = (9, 5, 1, *[1] * (n_features - 3))[:n_features]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["words", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis"], ["text_embeds"], keepdims=0),
        helper.make_node("Exp", ["logit_scale"], ["factor"]),
        helper.make_node("Mul", ["text_embeds", "factor"], ["scaled"]),
    ]
    arrays = {
        "table": table,
        "last": np.array([2], np.int64),
        "axis": np.array([1], np.int64),
        "logit_scale": np.float32(np.log(LOGIT_SCALE)),
    }
    ids = [(name, TensorProto.INT64, ["n", length]) for name in ("input_ids", "attention_mask")]
    _save(path, nodes, ids, [("text_embeds", ["n", n_features]), ("scaled", ["n", n_features])], arrays)


def write_tokenizer(path, *, pads=True):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    words = models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    tokenizer = Tokenizer(words)
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    tokenizer.save(str(path))
    if pads:
        config = {"pad_token": {"content": "[PAD]"}, "model_max_length": 12}
        path.with_name("tokenizer_config.json").write_text(json.dumps(config))


def paint(folder, colours=("red", "green", "blue"), n_images=8, seed=0):
    """Write pictures of noise around a colour, a folder for each."""
    rng = np.random.default_rng(seed)
    for colour in colours:
        (folder / colour).mkdir(parents=True, exist_ok=True)
        for number in range(n_images):
            noise = rng.uniform(-60, 60, (20, 20, 3))
            pixels = np.clip(170 * np.array(COLOURS[colour]) + 40 + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / colour / f"{number:02d}.png")
