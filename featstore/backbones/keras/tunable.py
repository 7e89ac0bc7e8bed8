"""Networks to be trained from one of their layers on."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featstore.backbones.keras.cuts import NetworkCut, find_cuts
from featstore.backbones.keras.cutting import layer_paths, no_such_layer, output_at
from featstore.backbones.keras.models import (
    CutNetwork,
    building,
    cut_network,
    input_size,
    layer_names,
    pooled_features,
    scale_pixels,
)
from featstore.backbones.keras.quiet import quiet_import
from featstore.backbones.keras.slim_resnet import is_of_slim
from featstore.backbones.known import find_backbone, known_backbones
from featstore.backbones.request import NetworkRequest
from featstore.errors import BackboneError
from featstore.io.archives.safe_zip import allow_any_clock
from featstore.io.atomic import replacing

with quiet_import():
    import keras

__all__ = ["TunableNetwork", "build_tunable"]


@dataclass(frozen=True, kw_only=True)
class TunableNetwork:
    """A network of which the part above a layer can be trained; made by :meth:`Backbone.tunable`."""

    request: NetworkRequest
    cut: CutNetwork
    trunk: Any  # from scaled pixels to float32 features
    names: Mapping[str, str]
    cuts: list[NetworkCut]  # from the input to the output

    def find_cut(self, layer: str) -> NetworkCut:
        """Return the cut at a layer, or raise BackboneError with the reason why there is none."""
        for cut in self.cuts:
            if cut.layer == layer:
                return cut
        of = os.path.basename(self.request.name)
        if layer not in self.names:
            if layer in layer_paths(self.cut.whole, self.names):
                raise BackboneError(
                    f"{of} cannot be tuned from {layer!r}, which is inside a nested network; {self._listed()}"
                )
            raise no_such_layer(self.cut.whole, self.names, layer, of)
        order = [inner.name for inner in self.cut.model.layers]
        own = self.names[layer]
        last = max((order.index(self.names[cut.layer]) for cut in self.cuts), default=-1)
        if own not in order or order.index(own) > last:
            raise BackboneError(
                f"{of} cannot be tuned from {layer!r}: above it there is nothing to train; {self._listed()}"
            )
        raise BackboneError(
            f"{of} cannot be tuned from {layer!r}: it is inside a block, other paths lead past it; "
            f"{self._listed(order.index(own), order)}"
        )

    def above(self, layer: str) -> Any:
        """Return the part from a cut's output to the features, as a model that shares the layers."""
        with building(self.request):
            tensor = output_at(self.cut.model, self.names, self.find_cut(layer).layer, self.request.name)
            part = keras.Model(tensor, self.trunk.output)
        part.trainable = True
        return part

    def from_pixels(self) -> Any:
        """Return the whole, from uint8 pixels to features, as a model that shares the layers."""
        with building(self.request):
            size_px = input_size(self.request, self.cut.model)
            pixels = keras.Input((*size_px, 3), dtype="uint8")
            scaled = scale_pixels(pixels, self.request.scaling)
            model = keras.Model(pixels, self.trunk(keras.ops.cast(scaled, self.trunk.inputs[0].dtype)))
        model.trainable = True
        return model

    def digest(self) -> str:
        """Return the digest of the weights as they are now."""
        return self.cut.digest()

    @property
    def ending(self) -> str:
        """Ending of the file that :meth:`save` writes."""
        return ".keras" if self.request.is_own else ".weights.h5"

    def save(self, path: str) -> None:
        """Write the weights, or the whole of a model of the user's own, atomically."""
        with tempfile.TemporaryDirectory(prefix="featstore-") as folder, replacing(path) as temporary:
            saved = os.path.join(folder, f"network{self.ending}")
            allow_any_clock()
            if self.request.is_own:
                self.cut.whole.save(saved)
            else:
                self.cut.whole.save_weights(saved)
            shutil.copyfile(saved, temporary)

    def _listed(self, at: int = 2**31, order: Sequence[str] = ()) -> str:
        """Name the cuts next to a layer, or the last one."""
        names = [cut.layer for cut in self.cuts]
        if order:
            below = [name for name in names if order.index(self.names[name]) < at]
            above = [name for name in names if order.index(self.names[name]) > at]
            return f"cut at {' or '.join([*below[-1:], *above[:1]])} (see featstore finetune --cuts)"
        return f"the last cut is at {names[-1] if names else 'no layer'} (see featstore finetune --cuts)"


def build_tunable(request: NetworkRequest) -> TunableNetwork:
    """Build a network anew, with all its weights."""
    if request.weights == "closed-form":
        raise BackboneError(f"{request.name} is a formula: it has no weights to train")
    if not request.is_own and request.name not in {info.name for info in known_backbones()}:
        raise BackboneError(
            f"the network is a model of your own, {request.architecture!r}; give its file with --weights"
        )
    if not request.is_own and is_of_slim(find_backbone(request.name), request):
        raise BackboneError(
            f"{request.name} with weights of TF-slim is laid out otherwise than Keras', so that tuned "
            "weights could not be read back; tune the one with Keras' own weights"
        )
    with building(request):
        cut = cut_network(request, to_train=True)
        features = cut.model.output if cut.pooled else pooled_features(cut.model.output, request)
        trunk = keras.Model(cut.model.inputs[0], features)
        names = layer_names(cut.whole, request)
    return TunableNetwork(
        request=request, cut=cut, trunk=trunk, names=names, cuts=find_cuts(cut.model, names)
    )
