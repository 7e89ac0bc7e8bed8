"""Embeddings of texts by the text tower of a network such as CLIP, in the space of its images."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.files.paths import check_model_path
from featstore.backbones.graphs.asking import ask_child
from featstore.backbones.graphs.formats import GRAPH_WORDS, find_graph
from featstore.errors import BackboneError
from featstore.extras import check_extra

__all__ = ["EmbeddedTexts", "embed_texts"]

# A tokenizer of 256,000 words takes 35 MB.
_LARGEST_TOKENIZER = 2**28


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddedTexts:
    """Embeddings of texts (n, d), and the factor of cosines that the network states, or None."""

    rows: NDArray[np.float32]
    logit_scale: float | None


def embed_texts(
    texts: Sequence[str], *, model: str, tokenizer: str, output: str | None = None, length: int | None = None
) -> EmbeddedTexts:
    """Compute the embeddings of texts by a text tower, in a child process."""
    graph = find_graph(model)
    if graph is None:
        raise BackboneError(f"a text model is {', '.join(GRAPH_WORDS.values())}; found {model}")
    graph.files()
    check_model_path(tokenizer)
    if os.path.getsize(tokenizer) > _LARGEST_TOKENIZER:
        raise BackboneError(
            f"{tokenizer} is larger than {_LARGEST_TOKENIZER // 2**20} MiB; expected a tokenizer.json"
        )
    check_extra("texts", f"the tokenizer {tokenizer}", "tokenizers")
    with tempfile.TemporaryDirectory(prefix="featstore-") as folder:
        target = os.path.join(folder, "texts.npy")
        task = {
            "work": "texts",
            "path": graph.path,
            "kind": graph.kind,
            "tokenizer": os.path.abspath(tokenizer),
            "texts": [*texts],
            "output": output,
            "length": length,
            "target": target,
        }
        found = ask_child(task, graph)
        return EmbeddedTexts(rows=np.load(target), logit_scale=found["logit_scale"])
