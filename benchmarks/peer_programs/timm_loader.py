"""timm's MobileNetV2 with a DataLoader, as timm's and PyTorch's guides have it: FOLDER, NPY file."""

import sys
import time

import numpy as np
import timm
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder


def main(folder: str, target: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model("mobilenetv2_100", pretrained=False, num_classes=0).eval()
    config = timm.data.resolve_data_config({}, model=model)
    images = ImageFolder(folder, transform=timm.data.create_transform(**config, is_training=False))
    started = time.perf_counter()
    loader = DataLoader(images, batch_size=32, num_workers=2)
    with torch.inference_mode():
        features = torch.cat([model(batch) for batch, _ in loader]).numpy()
    np.save(target, features)
    print(len(features), time.perf_counter() - started)


if __name__ == "__main__":
    main(*sys.argv[1:])
