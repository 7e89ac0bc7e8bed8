"""Hugging Face's pipeline image-feature-extraction with MobileNetV2: FOLDER, NPY file."""

import pathlib
import sys
import tempfile
import time

import numpy as np
import torch
from transformers import MobileNetV2Config, MobileNetV2ImageProcessor, MobileNetV2Model, pipeline


def main(folder: str, target: str) -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as local:
        MobileNetV2Model(MobileNetV2Config(image_size=224)).save_pretrained(local)
        MobileNetV2ImageProcessor().save_pretrained(local)
        extract = pipeline("image-feature-extraction", model=local, device="cpu", pool=True)
        paths = sorted(str(path) for path in pathlib.Path(folder).rglob("*.jpg"))
        started = time.perf_counter()
        features = np.array([one[0] for one in extract(paths, batch_size=32)], np.float32)
        np.save(target, features)
        print(len(features), time.perf_counter() - started)


if __name__ == "__main__":
    main(*sys.argv[1:])
