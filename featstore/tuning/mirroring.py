"""Several devices that train on one batch, each with a part of it and a copy of the weights."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featstore.backbones.keras.models import device_names
from featstore.backbones.keras.quiet import quiet_import
from featstore.errors import TuningError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

with quiet_import():
    import keras

__all__ = ["Mirrored", "mirror"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mirrored:
    """Devices of TensorFlow with the same weights."""

    strategy: Any  # tf.distribute.MirroredStrategy
    n_devices: int

    def divided(self, arrays: "Sequence[NDArray[Any]]") -> tuple[Any, ...]:
        """Give each device an equal part of every array."""
        size = len(arrays[0]) // self.n_devices

        def parts_of(array: "NDArray[Any]") -> Any:
            def part(context: Any) -> Any:
                start = size * context.replica_id_in_sync_group
                return keras.ops.convert_to_tensor(array[start : start + size])

            return self.strategy.experimental_distribute_values_from_function(part)

        return tuple(map(parts_of, arrays))

    def mean(self, gradients: list[Any]) -> list[Any]:
        """Return the mean of the devices' gradients, on each of them."""
        import tensorflow as tf

        averaged: list[Any] = tf.distribute.get_replica_context().all_reduce("MEAN", gradients)
        return averaged


def mirror(n_devices: int, batch_size: int) -> Mirrored | None:
    """Return so many devices of TensorFlow; None for one, which needs no copies."""
    if isinstance(n_devices, bool) or not isinstance(n_devices, int) or n_devices < 1:
        raise TuningError(f"devices must be an integer of at least 1; found {n_devices!r}")
    if n_devices == 1:
        return None
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise TuningError(
            f"several devices train together in TensorFlow only; found Keras on {backend}: set "
            "KERAS_BACKEND=tensorflow"
        )
    found = device_names("gpu") or device_names("cpu")
    if len(found) < n_devices:
        raise TuningError(
            f"{n_devices} devices were asked for; found {len(found)}: {', '.join(found)}. A processor is one "
            "device, all of whose cores train as it is"
        )
    if batch_size % n_devices:
        raise TuningError(
            f"a batch of {batch_size} images cannot be divided among {n_devices} devices equally; use a "
            f"multiple of {n_devices}"
        )
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy([name.upper() for name in found[:n_devices]])
    return Mirrored(strategy=strategy, n_devices=n_devices)
