"""thingsvision's extractor with MobileNetV2, as its guide has it: FOLDER, NPY file."""

import sys
import tempfile
import time

import numpy as np
import torch
from thingsvision import get_extractor
from thingsvision.utils.data import DataLoader, ImageDataset


def main(folder: str, target: str) -> None:
    torch.manual_seed(0)
    extractor = get_extractor(model_name="mobilenet_v2", source="torchvision", device="cpu", pretrained=False)
    started = time.perf_counter()
    # It writes the names of the files there.
    with tempfile.TemporaryDirectory() as names:
        images = ImageDataset(
            root=folder,
            out_path=names,
            backend=extractor.get_backend(),
            transforms=extractor.get_transformations(),
        )
        batches = DataLoader(dataset=images, batch_size=32, backend=extractor.get_backend())
        # The dropout before the classifier, which passes the pooled features on.
        features = extractor.extract_features(
            batches=batches, module_name="classifier.0", flatten_acts=True, output_type="ndarray"
        )
    np.save(target, features)
    print(len(features), time.perf_counter() - started)


if __name__ == "__main__":
    main(*sys.argv[1:])
