"""Keras' image_dataset_from_directory and predict with MobileNetV2: FOLDER, NPY file."""

import sys
import time

import keras
import numpy as np


def main(folder: str, target: str) -> None:
    keras.utils.set_random_seed(0)
    network = keras.applications.MobileNetV2(include_top=False, weights=None, pooling="avg")
    scale = keras.applications.mobilenet_v2.preprocess_input
    started = time.perf_counter()
    images = keras.utils.image_dataset_from_directory(
        folder, labels=None, image_size=(224, 224), batch_size=32, shuffle=False, verbose=False
    )
    features = network.predict(images.map(scale).prefetch(2), verbose=0)
    np.save(target, features)
    print(len(features), time.perf_counter() - started)


if __name__ == "__main__":
    main(*sys.argv[1:])
