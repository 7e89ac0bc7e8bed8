"""The table of named backbones; importing it needs no network library."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from featstore.errors import UnknownBackboneError

__all__ = ["BackboneInfo", "find_backbone", "known_backbones"]


@dataclass(frozen=True, kw_only=True)
class BackboneInfo:
    """A named backbone, described without building it.

    Parameters
    ----------
    name : str
        The name that users type: ``"mobilenet_v2"``.
    keras_name : str
        The function that builds it in ``keras.applications``; empty for the built-in ``scattering``.
    module : str
        The module of ``keras.applications`` that holds it, with its ``preprocess_input``.
    size_px : tuple of int
        Height and width that its weights were trained at, in pixels.
    min_size_px : int
        The smallest height and width that it takes.
    feature_dim : int
        Columns of its features at the default layer and size, average pooled.
    parameters : int
        Numbers in its weights, without the classifier.
    alpha_parameters : dict of float to int
        The same of its other widths.
    preprocessing : str
        How its pixels are scaled, in the words of :class:`BackboneSpec`. ``"none"`` where the network does
        it inside: EfficientNet, EfficientNetV2, ConvNeXt and MobileNetV3 take pixels in [0, 255].
    layer : str
        The default cut: the last layer before the pooling.
    top_layers : int
        Layers with weights in the classifier that follows the cut.
    alphas : tuple of float
        The width multipliers that Keras publishes weights for; empty where the network has none.
    weights : str
        Where its weights come from unless a file is given: ``"imagenet"`` is Keras' own download,
        ``"closed-form"`` a formula.
    licence : str
        Of those ImageNet weights, in SPDX's words, as Keras' documentation states it; empty where it is
        silent.
    """

    name: str
    keras_name: str = ""
    module: str = ""
    size_px: tuple[int, int]
    min_size_px: int = 32
    feature_dim: int
    parameters: int
    alpha_parameters: Mapping[float, int] = field(default_factory=dict)
    preprocessing: str
    layer: str
    top_layers: int = 0
    alphas: tuple[float, ...] = ()
    weights: str = "imagenet"
    licence: str = ""


_SCATTERING = BackboneInfo(
    name="scattering",
    size_px=(96, 96),
    min_size_px=16,
    feature_dim=1932,
    parameters=17_424,
    preprocessing="none",
    layer="log_scattering",
    weights="closed-form",
)

# How each module of keras.applications scales its pixels, from its preprocess_input.
_PREPROCESSING = {
    "convnext": "none",
    "densenet": "torch",
    "efficientnet": "none",
    "efficientnet_v2": "none",
    "inception_resnet_v2": "tf",
    "inception_v3": "tf",
    "mobilenet": "tf",
    "mobilenet_v2": "tf",
    "mobilenet_v3": "none",
    "nasnet": "tf",
    "resnet": "caffe",
    "resnet_v2": "tf",
    "vgg16": "caffe",
    "vgg19": "caffe",
    "xception": "tf",
}

# Of Keras' ImageNet weights, by module: https://keras.io/api/applications.
_LICENCES = {
    "densenet": "BSD-3-Clause",
    "inception_resnet_v2": "Apache-2.0",
    "inception_v3": "Apache-2.0",
    "mobilenet": "Apache-2.0",
    "mobilenet_v2": "Apache-2.0",
    "nasnet": "Apache-2.0",
    "resnet": "MIT",
    "vgg16": "CC-BY-4.0",
    "vgg19": "CC-BY-4.0",
    "xception": "MIT",
}

# From Keras 3.15: name, function, module, size, features, parameters, layer, layers in the classifier.
_KERAS = (
    ("convnext_tiny", "ConvNeXtTiny", "convnext", 224, 768, 27_820_128, "layer_normalization", 1),
    ("convnext_small", "ConvNeXtSmall", "convnext", 224, 768, 49_454_688, "layer_normalization", 1),
    ("convnext_base", "ConvNeXtBase", "convnext", 224, 1024, 87_566_464, "layer_normalization", 1),
    ("convnext_large", "ConvNeXtLarge", "convnext", 224, 1536, 196_230_336, "layer_normalization", 1),
    ("convnext_xlarge", "ConvNeXtXLarge", "convnext", 224, 2048, 348_147_968, "layer_normalization", 1),
    ("densenet121", "DenseNet121", "densenet", 224, 1024, 7_037_504, "relu", 1),
    ("densenet169", "DenseNet169", "densenet", 224, 1664, 12_642_880, "relu", 1),
    ("densenet201", "DenseNet201", "densenet", 224, 1920, 18_321_984, "relu", 1),
    ("efficientnet_b0", "EfficientNetB0", "efficientnet", 224, 1280, 4_049_571, "top_activation", 1),
    ("efficientnet_b1", "EfficientNetB1", "efficientnet", 240, 1280, 6_575_239, "top_activation", 1),
    ("efficientnet_b2", "EfficientNetB2", "efficientnet", 260, 1408, 7_768_569, "top_activation", 1),
    ("efficientnet_b3", "EfficientNetB3", "efficientnet", 300, 1536, 10_783_535, "top_activation", 1),
    ("efficientnet_b4", "EfficientNetB4", "efficientnet", 380, 1792, 17_673_823, "top_activation", 1),
    ("efficientnet_b5", "EfficientNetB5", "efficientnet", 456, 2048, 28_513_527, "top_activation", 1),
    ("efficientnet_b6", "EfficientNetB6", "efficientnet", 528, 2304, 40_960_143, "top_activation", 1),
    ("efficientnet_b7", "EfficientNetB7", "efficientnet", 600, 2560, 64_097_687, "top_activation", 1),
    ("efficientnet_v2_b0", "EfficientNetV2B0", "efficientnet_v2", 224, 1280, 5_919_312, "top_activation", 1),
    ("efficientnet_v2_b1", "EfficientNetV2B1", "efficientnet_v2", 240, 1280, 6_931_124, "top_activation", 1),
    ("efficientnet_v2_b2", "EfficientNetV2B2", "efficientnet_v2", 260, 1408, 8_769_374, "top_activation", 1),
    ("efficientnet_v2_b3", "EfficientNetV2B3", "efficientnet_v2", 300, 1536, 12_930_622, "top_activation", 1),
    ("efficientnet_v2_s", "EfficientNetV2S", "efficientnet_v2", 384, 1280, 20_331_360, "top_activation", 1),
    ("efficientnet_v2_m", "EfficientNetV2M", "efficientnet_v2", 480, 1280, 53_150_388, "top_activation", 1),
    ("efficientnet_v2_l", "EfficientNetV2L", "efficientnet_v2", 480, 1280, 117_746_848, "top_activation", 1),
    (
        "inception_resnet_v2",
        "InceptionResNetV2",
        "inception_resnet_v2",
        299,
        1536,
        54_336_736,
        "conv_7b_ac",
        1,
    ),
    ("inception_v3", "InceptionV3", "inception_v3", 299, 2048, 21_802_784, "mixed10", 1),
    ("mobilenet", "MobileNet", "mobilenet", 224, 1024, 3_228_864, "conv_pw_13_relu", 1),
    ("mobilenet_v2", "MobileNetV2", "mobilenet_v2", 224, 1280, 2_257_984, "out_relu", 1),
    ("mobilenet_v3_small", "MobileNetV3Small", "mobilenet_v3", 224, 576, 939_120, "activation_17", 2),
    ("mobilenet_v3_large", "MobileNetV3Large", "mobilenet_v3", 224, 960, 2_996_352, "activation_19", 2),
    ("nasnet_mobile", "NASNetMobile", "nasnet", 224, 1056, 4_269_716, "activation_187", 1),
    ("nasnet_large", "NASNetLarge", "nasnet", 331, 4032, 84_916_818, "activation_259", 1),
    ("resnet50", "ResNet50", "resnet", 224, 2048, 23_587_712, "conv5_block3_out", 1),
    ("resnet101", "ResNet101", "resnet", 224, 2048, 42_658_176, "conv5_block3_out", 1),
    ("resnet152", "ResNet152", "resnet", 224, 2048, 58_370_944, "conv5_block3_out", 1),
    ("resnet50_v2", "ResNet50V2", "resnet_v2", 224, 2048, 23_564_800, "post_relu", 1),
    ("resnet101_v2", "ResNet101V2", "resnet_v2", 224, 2048, 42_626_560, "post_relu", 1),
    ("resnet152_v2", "ResNet152V2", "resnet_v2", 224, 2048, 58_331_648, "post_relu", 1),
    ("vgg16", "VGG16", "vgg16", 224, 512, 14_714_688, "block5_pool", 3),
    ("vgg19", "VGG19", "vgg19", 224, 512, 20_024_384, "block5_pool", 3),
    ("xception", "Xception", "xception", 299, 2048, 20_861_480, "block14_sepconv2_act", 1),
)

_MIN_SIZE_PX = {"inception_resnet_v2": 75, "inception_v3": 75, "xception": 71}

_ALPHAS = {
    "mobilenet": (0.25, 0.5, 0.75, 1.0),
    "mobilenet_v2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    "mobilenet_v3_large": (0.75, 1.0),
    "mobilenet_v3_small": (0.75, 1.0),
}

_ALPHA_PARAMETERS = {
    "mobilenet": {0.25: 218_544, 0.5: 829_536, 0.75: 1_832_976},
    "mobilenet_v2": {
        0.35: 410_208,
        0.5: 706_224,
        0.75: 1_382_064,
        1.3: 3_766_048,
        1.4: 4_363_712,
    },
    "mobilenet_v3_large": {0.75: 1_808_736},
    "mobilenet_v3_small": {0.75: 583_160},
}


@cache
def known_backbones() -> tuple[BackboneInfo, ...]:
    """Return the named backbones, sorted by name.

    Examples
    --------
    >>> [info.name for info in known_backbones()][:3]
    ['convnext_base', 'convnext_large', 'convnext_small']
    """
    known = [
        BackboneInfo(
            name=name,
            keras_name=keras_name,
            module=module,
            size_px=(side, side),
            min_size_px=_MIN_SIZE_PX.get(name, 32),
            feature_dim=feature_dim,
            parameters=parameters,
            preprocessing=_PREPROCESSING[module],
            layer=layer,
            top_layers=top_layers,
            alphas=_ALPHAS.get(name, ()),
            licence=_LICENCES.get(module, ""),
            alpha_parameters=_ALPHA_PARAMETERS.get(name, {}),
        )
        for name, keras_name, module, side, feature_dim, parameters, layer, top_layers in _KERAS
    ]
    return tuple(sorted([*known, _SCATTERING], key=lambda info: info.name))


def find_backbone(name: str) -> BackboneInfo:
    """Return a backbone by name, or raise UnknownBackboneError."""
    by_name = {info.name: info for info in known_backbones()}
    if name in by_name:
        return by_name[name]
    # MobileNetV2 and mobilenet-v2 are what people type who know the Keras name or the paper's.
    spoken = {info.keras_name.lower(): info.name for info in known_backbones() if info.keras_name}
    wanted = name.lower().replace("-", "_")
    near = [spoken[key]] if (key := wanted.replace("_", "")) in spoken else []
    near += [match for match in difflib.get_close_matches(wanted, by_name, n=3) if match not in near]
    hint = f"did you mean {', '.join(near)}? " if near else ""
    raise UnknownBackboneError(
        f"no backbone is called {name!r}; {hint}'featstore backbones' lists them, "
        "and a model of your own is given by the path of its .keras file"
    )
