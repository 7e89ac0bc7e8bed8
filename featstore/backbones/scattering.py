"""The built-in backbone that needs no weights: a wavelet scattering network.

Definition
----------
The network is that of Mallat, "Group invariant scattering", Communications on Pure and Applied Mathematics
65 (2012), and of Bruna and Mallat, "Invariant scattering convolution networks", IEEE TPAMI 35 (2013). The
wavelet at scale 2^j and angle θ_l = πl/L is a Morlet::

    ψ_{j,l}(u) = g · s / (2π d_j²) · exp(-(a² + s²b²) / (2 d_j²)) · (exp(i ξ_j a) - β),
    (a, b) = u turned by -θ_l,   d_j = 0.8 · 2^j,   ξ_j = (3π/4) · 2^-j,   s = 4/L,

with β such that ψ sums to zero, and the low-pass φ_J is a Gaussian of deviation 0.8 · 2^(J-1). Deviation d,
frequency ξ and slant s are those of ScatNet and Kymatio. The gain g = 0.976 is ours: it brings the
Littlewood-Paley sum

    |φ̂(ω)|² + ½ Σ_{j,l} (|ψ̂_{j,l}(ω)|² + |ψ̂_{j,l}(-ω)|²)

from at most 1.048 to at most 1, which makes the transform non-expansive: ‖Sx - Sy‖ ≤ ‖x - y‖. For an image x,
and with λ = (j, l)::

    U[] x       = x                     S[] x       = x ⋆ φ_J
    U[λ1] x     = |x ⋆ ψ_λ1|            S[λ1] x     = U[λ1] x ⋆ φ_J
    U[λ1, λ2] x = |U[λ1] x ⋆ ψ_λ2|      S[λ1, λ2] x = U[λ1, λ2] x ⋆ φ_J      for j2 > j1

Only paths of decreasing frequency are kept, j2 > j1: the modulus moves the energy of x ⋆ ψ_λ1 down to
frequencies below those of ψ_λ1, so that the other paths carry next to none. U[λ1] is sampled every 2^j1
pixels and U[λ1, λ2] every 2^j2, at the centres of blocks of that side; beyond its edges an image is mirrored.
Each S is averaged over the four quarters of the image.

The image is split into luma and two chroma signals (ITU-R BT.601, full range, as in JFIF, with pixels scaled
to [0, 1]). Luma has the orders 0, 1 and 2, chroma the orders 0 and 1.

Number of features
------------------
Order 1 has JL paths and order 2 has L² for each of the J(J-1)/2 pairs j1 < j2, so that luma has
1 + JL + L²J(J-1)/2 paths and each chroma signal 1 + JL. For J = 4 and L = 8 these are 417 + 2 · 33 = 483
paths, and with four quarters 1,932 features, at every size of input.

Compression
-----------
With r² the sum of S² over all paths of orders 1 and 2, averaged over the quarters, these paths leave the
network as log(ε + S / (r + δ)), with ε = 0.01 and δ = 0.001. The logarithm of scattering coefficients is from
Andén and Mallat, "Deep scattering spectrum", IEEE TSP 62 (2014); dividing by r removes the contrast of the
picture. Order 0 stays as it is.

How it is computed
------------------
Only real convolutions and matrix products, so that every back end and converter can run it. A wavelet with
j ≤ 1 (relative to the grid of the map that it meets) is a convolution with stride 2^j. The others run on a
pyramid, for which Gaussians divide in closed form: ψ_j = G ⋆ ψ', with G a Gaussian of deviation 2^(j-1),
where ψ' has that much less variance and the higher frequency ξ_j d_j² / (d_j² - 4^(j-1)). The map is
smoothed with G and sampled every 2^(j-1) pixels, and ψ' is applied to that with stride 2. Two things are
approximate: kernels are cut to 11 · 2^j pixels, and sampling lets through a little of what lies above the
grid's frequencies.
Together they change the coefficients by less than 0.1 % (root of the summed squares, on photograph-like
pictures and on noise): the tests compare them with Fourier transforms in double precision.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.errors import BackboneError

__all__ = [
    "FEATURE_DIM",
    "LAYER_NAME",
    "SIZE_PX",
    "build_scattering",
    "scattering_paths",
    "wavelet_kernels",
]

SIZE_PX = (96, 96)
"""Height and width of the input, in pixels, by default."""

LAYER_NAME = "log_scattering"
"""Name of the layer that gives the features. It changes whenever their definition does."""

_SCALES = 4
_ORIENTATIONS = 8
_QUARTERS = 4
_CHROMA_PATHS = 1 + _SCALES * _ORIENTATIONS
_LUMA_PATHS = _CHROMA_PATHS + _ORIENTATIONS**2 * _SCALES * (_SCALES - 1) // 2

FEATURE_DIM: int = _QUARTERS * (_LUMA_PATHS + 2 * _CHROMA_PATHS)
"""Number of features of an image: 1,932."""

_SIGMA = 0.8
_XI = 3 * np.pi / 4
_SLANT = 4 / _ORIENTATIONS
_GAIN = 0.976
_TAPS = 11
_EPSILON = 0.01
_DELTA = 0.001
_BLOCK_PX = 2**_SCALES

# Y, Cb, Cr from R, G, B (rows), ITU-R BT.601 and JFIF 1.02.
_YCBCR = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=np.float64
)


def build_scattering(size_px: tuple[int, int] = SIZE_PX) -> Any:
    """Build the scattering network as a Keras model."""
    # Feature 4 p + 2 r + c is path p of scattering_paths in the image's quarter of row r and column c. The
    # layer "scattering" gives the coefficients S before compression, (n, n_paths, 2, 2).
    height, width = (int(side) for side in size_px)
    if min(height, width) < _BLOCK_PX:
        raise BackboneError(
            f"the scattering backbone needs images of at least {_BLOCK_PX}x{_BLOCK_PX} pixels; "
            f"found {height}x{width}; give a larger image size, such as {SIZE_PX[0]}"
        )
    import keras
    from keras import ops

    wavelets = {
        name: _constant_convolution(name, kernel, stride=1 if name == "wavelets_0" else 2)
        for name, kernel in wavelet_kernels().items()
    }
    sides = tuple(_BLOCK_PX * -(-side // _BLOCK_PX) for side in (height, width))

    def modulus(maps: Any, shape: tuple[int, int], target: tuple[int, int], scale: int) -> Any:
        """Take |maps ⋆ ψ_scale|: (n, *shape) to (n, *target / 2^scale, L), mirrored beyond shape."""
        step, deviation = (2 ** (scale - 1), 2.0 ** (scale - 1)) if scale > 1 else (1, 0.0)
        margin = (_TAPS - 1) // 2 if scale == 0 else _TAPS - 1
        rows, columns = (
            _resampling(side, whole, step=step, margin=margin, deviation=deviation)
            for side, whole in zip(shape, target, strict=True)
        )
        maps = ops.matmul(ops.matmul(rows[None], maps), columns.T)
        response = wavelets[f"wavelets_{min(scale, 2)}"](ops.expand_dims(maps, -1))
        real, imaginary = response[..., :_ORIENTATIONS], response[..., _ORIENTATIONS:]
        return ops.sqrt(real * real + imaginary * imaginary)

    def average(moduli: Any, shape: tuple[int, int], scale: int) -> Any:
        """Average moduli ⋆ φ_J over the quarters: (n, *shape, k) to (n, 2, 2, k)."""
        count = moduli.shape[-1]
        rows, columns = (_quarter_averages(side, scale) for side in shape)
        moduli = ops.matmul(rows[None], ops.reshape(moduli, (-1, shape[0], shape[1] * count)))
        return ops.matmul(columns[None, None], ops.reshape(moduli, (-1, 2, shape[1], count)))

    def scatter(signal: Any, *, second_order: bool) -> Iterator[Any]:
        """Yield S of one colour signal (n, height, width), in parts (n, 2, 2, number of paths)."""
        whole = [_resampling(side, full) for side, full in zip((height, width), sides, strict=True)]
        extended = ops.matmul(ops.matmul(whole[0][None], signal), whole[1].T)
        yield average(ops.expand_dims(extended, -1), sides, 0)
        for j1 in range(_SCALES):
            shape = (sides[0] >> j1, sides[1] >> j1)
            first = modulus(signal, (height, width), sides, j1)
            yield average(first, shape, j1)
            if not second_order:
                continue
            maps = ops.reshape(ops.transpose(first, (0, 3, 1, 2)), (-1, *shape))
            for j2 in range(j1 + 1, _SCALES):
                second = modulus(maps, shape, shape, j2 - j1)
                averaged = average(second, (sides[0] >> j2, sides[1] >> j2), j2)
                averaged = ops.reshape(averaged, (-1, _ORIENTATIONS, 2, 2, _ORIENTATIONS))
                averaged = ops.transpose(averaged, (0, 2, 3, 1, 4))
                yield ops.reshape(averaged, (-1, 2, 2, _ORIENTATIONS**2))

    pixels = keras.Input((height, width, 3), dtype="float32", name="pixels")
    colours = ops.matmul(pixels, (_YCBCR.T / 255).astype(np.float32))
    parts = [part for c in range(3) for part in scatter(colours[..., c], second_order=c == 0)]
    coefficients = ops.transpose(ops.concatenate(parts, axis=-1), (0, 3, 1, 2))
    coefficients = keras.layers.Identity(name="scattering", dtype="float32")(coefficients)
    compressed = _compress(ops.reshape(coefficients, (-1, FEATURE_DIM // _QUARTERS, _QUARTERS)))
    features = keras.layers.Reshape((FEATURE_DIM,), name=LAYER_NAME, dtype="float32")(compressed)
    return keras.Model(pixels, features, name="scattering_network", trainable=False)


def scattering_paths() -> tuple[tuple[str, tuple[tuple[int, int], ...]], ...]:
    """Return the paths, as (signal, path), in the order of the features."""
    # A path has none, one or two pairs (j, l): scale 2^j, and angle πl/8 from rightward towards downward.
    angles = range(_ORIENTATIONS)
    paths: list[tuple[str, tuple[tuple[int, int], ...]]] = []
    for signal in ("y", "cb", "cr"):
        paths.append((signal, ()))
        for j1 in range(_SCALES):
            paths += [(signal, ((j1, l1),)) for l1 in angles]
            if signal == "y":
                paths += [
                    (signal, ((j1, l1), (j2, l2)))
                    for j2, l1, l2 in product(range(j1 + 1, _SCALES), angles, angles)
                ]
    return tuple(paths)


def wavelet_kernels() -> dict[str, NDArray[np.float32]]:
    """Compute the only weights, float32 (taps, taps, 1, 16) each, in closed form and without Keras."""
    # wavelets_0 is ψ_0 and wavelets_1 is ψ_1, each on the grid of the map; wavelets_2 is ψ' on a grid of the
    # pyramid. Rows, columns, one channel, then the real parts of the eight orientations and their imaginary
    # parts. All values are multiples of 2^-22, so that the last digits of a machine's exponential function
    # cannot change them, and with them the identity of the backbone; each kernel sums to zero.
    return {
        "wavelets_0": _morlets(_TAPS, _SIGMA, _XI),
        "wavelets_1": _morlets(2 * _TAPS, 2 * _SIGMA, _XI / 2),
        "wavelets_2": _morlets(2 * _TAPS, 2 * _SIGMA, _XI / 2, smoothed=1.0),
    }


def _morlets(taps: int, sigma: float, xi: float, *, smoothed: float = 0.0) -> NDArray[np.float32]:
    """Sample the Morlet wavelets of one scale, divided by a Gaussian of deviation ``smoothed``."""
    offsets = np.arange(taps) - (taps - 1) / 2
    down, right = offsets[:, None, None], offsets[None, :, None]
    angle = np.pi * np.arange(_ORIENTATIONS) / _ORIENTATIONS
    along = right * np.cos(angle) + down * np.sin(angle)
    across = down * np.cos(angle) - right * np.sin(angle)

    along_variance = sigma**2 - smoothed**2
    across_variance = (sigma / _SLANT) ** 2 - smoothed**2
    frequency = xi * sigma**2 / along_variance
    height = _GAIN / (2 * np.pi * np.sqrt(along_variance * across_variance))
    height *= np.exp((xi * sigma * smoothed) ** 2 / (2 * along_variance))

    envelope = height * np.exp(-(along**2) / (2 * along_variance) - across**2 / (2 * across_variance))
    real, imaginary = envelope * np.cos(frequency * along), envelope * np.sin(frequency * along)
    real -= envelope * (real.sum((0, 1)) / envelope.sum((0, 1)))

    kernels = np.round(np.concatenate([real, imaginary], axis=-1) * 2**22)
    kernels[taps // 2, taps // 2] -= kernels.sum((0, 1))
    return np.asarray(kernels[:, :, None, :] / 2**22, dtype=np.float32)


def _constant_convolution(name: str, kernel: NDArray[np.float32], *, stride: int) -> Any:
    import keras

    layer = keras.layers.Conv2D(
        kernel.shape[-1], kernel.shape[0], strides=stride, use_bias=False, dtype="float32", name=name
    )
    layer.build((None, None, None, 1))
    layer.set_weights([kernel])
    layer.trainable = False
    return layer


def _compress(coefficients: Any) -> Any:
    """Replace orders 1 and 2 by log(ε + S / (r + δ)): (n, n_paths, quarters) to the same."""
    from keras import ops

    averages = np.array([path == () for _, path in scattering_paths()], dtype=np.float32)[:, None]
    scattered = coefficients * (1 - averages)
    energy = ops.sum(ops.square(scattered), axis=(1, 2), keepdims=True) / _QUARTERS
    relative = scattered / (ops.sqrt(energy) + _DELTA)
    return coefficients * averages + ops.log(relative + _EPSILON) * (1 - averages)


def _resampling(
    side: int, whole: int, *, step: int = 1, margin: int = 0, deviation: float = 0.0
) -> NDArray[np.float32]:
    """Return the matrix that extends a line of pixels by mirroring, smooths it and samples it."""
    # The line of ``side`` pixels is first extended evenly to ``whole``. The result has shape (whole /
    # step + 2 margin, side); its rows stand ``step`` pixels apart, at the centres of blocks.
    centres = (np.arange(-margin, whole // step + margin) + 0.5) * step - 0.5
    reach = int(np.ceil(6 * deviation))
    near = np.floor(centres)[:, None] + np.arange(-reach, reach + 2)
    distance = near - centres[:, None]
    weights = np.exp(-(distance**2) / (2 * deviation**2)) if deviation else (distance == 0).astype(np.float64)
    return _scattered_rows(_mirrored(_mirrored(near, whole) - (whole - side) // 2, side), weights, side)


def _quarter_averages(side: int, scale: int) -> NDArray[np.float32]:
    """Return the matrix (2, side) that smooths a line sampled every 2^scale by φ_J and averages halves."""
    deviation = _SIGMA * 2.0 ** (_SCALES - 1 - scale)
    reach = int(np.ceil(6 * deviation))
    distance = np.arange(-reach, reach + 1)
    near = np.arange(side)[:, None] + distance
    weights = np.broadcast_to(np.exp(-(distance**2) / (2 * deviation**2)), near.shape)
    smoothing = _scattered_rows(_mirrored(near, side), weights, side)
    return np.asarray(smoothing.reshape(2, side // 2, side).mean(1, dtype=np.float64), dtype=np.float32)


def _mirrored(positions: NDArray[Any], side: int) -> NDArray[np.int64]:
    folded = np.mod(positions, 2 * side)
    return np.asarray(np.where(folded < side, folded, 2 * side - 1 - folded), dtype=np.int64)


def _scattered_rows(columns: NDArray[np.int64], weights: NDArray[Any], side: int) -> NDArray[np.float32]:
    """Build a matrix of ``side`` columns whose rows sum to one, from weights at given columns."""
    matrix = np.zeros((len(columns), side))
    np.add.at(matrix, (np.arange(len(columns))[:, None], columns), weights)
    return np.asarray(matrix / matrix.sum(1, keepdims=True), dtype=np.float32)
