"""One small network in every file that OpenVINO reads, and networks of tokens, for the tests."""

import os
import warnings

import numpy as np

SIDE = 32


def small_network(keras):
    """Inverted residual blocks as MobileNetV2's, with random weights and batch statistics."""
    layers = keras.layers
    keras.utils.set_random_seed(5)
    inputs = keras.Input((SIDE, SIDE, 3), name="images")
    x = layers.Conv2D(8, 3, 2, "same", use_bias=False, name="stem")(inputs)
    for number in range(2):
        y = layers.Conv2D(24, 1, use_bias=False, name=f"expand_{number}")(x)
        y = layers.BatchNormalization(name=f"expand_bn_{number}")(y)
        y = layers.ReLU(6.0, name=f"expand_relu_{number}")(y)
        y = layers.DepthwiseConv2D(3, 1, "same", use_bias=False, name=f"depthwise_{number}")(y)
        y = layers.Conv2D(8, 1, use_bias=False, name=f"project_{number}")(y)
        x = layers.Add(name=f"add_{number}")([x, y])
    x = layers.Conv2D(40, 1, 2, name="top")(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(layers.ReLU(6.0, name="out_relu")(x))
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(5)
    for variable in model.weights:
        low, high = (0.5, 1.5) if "variance" in variable.path or "gamma" in variable.path else (-0.4, 0.4)
        variable.assign(rng.uniform(low, high, tuple(variable.shape)))
    return model


def write_graphs(model, folder):
    """Write a Keras model as ONNX, SavedModel, TFLite, OpenVINO and a frozen graph, by TensorFlow's own tools."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    paths = {
        name: os.path.join(folder, name) for name in ("net.onnx", "saved", "net.tflite", "net.pb", "net.xml")
    }
    model.export(paths["saved"], verbose=False)
    write_onnx(model, paths["net.onnx"])
    model.export(paths["net.xml"], format="openvino", verbose=False)
    function = tf.function(lambda images: model(images, training=False))
    frozen = convert_variables_to_constants_v2(
        function.get_concrete_function(tf.TensorSpec([None, SIDE, SIDE, 3], tf.float32, name="images"))
    )
    tf.io.write_graph(frozen.graph, folder, "net.pb", as_text=False)
    with open(paths["net.tflite"], "wb") as file:
        file.write(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return paths


def write_onnx(model, path):
    """Write a Keras model as ONNX, without what tf2onnx has to say about NumPy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.export(str(path), format="onnx", verbose=False)


def write_retrain_graph(path):
    """Write a frozen graph with the names of ``retrain.py``'s Inception: it decodes JPEG, and ends in pool_3."""
    import tensorflow as tf

    v1 = tf.compat.v1
    rng = np.random.default_rng(3)
    kernel = rng.normal(0, 0.3, (3, 3, 3, 5)).astype(np.float32)
    with v1.Graph().as_default() as graph:
        data = v1.placeholder(tf.string, name="DecodeJpeg/contents")
        decoded = v1.image.decode_jpeg(data, channels=3, name="DecodeJpeg")
        images = tf.expand_dims(tf.cast(decoded, tf.float32), 0, name="ExpandDims")
        resized = v1.image.resize_bilinear(images, [SIDE, SIDE], name="ResizeBilinear")
        scaled = tf.multiply(tf.subtract(resized, 128.0, name="Sub"), 1 / 128, name="Mul")
        maps = tf.nn.relu(tf.nn.conv2d(scaled, kernel, 2, "VALID", name="conv"), name="conv/relu")
        pooled = tf.reduce_mean(maps, [1, 2], keepdims=True, name="pool_3")
        tf.reshape(pooled, [1, 5], name="pool_3/_reshape")
        v1.io.write_graph(graph.as_graph_def(), os.path.dirname(path), os.path.basename(path), as_text=False)
    return kernel


def write_tokens(path, *, batch="n", outside=None, seed=4):
    """Write an ONNX network (n, 3, 32, 32) to tokens (n, 17, 6) and their pooled row, as a vision transformer."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    arrays = {
        "kernel": rng.normal(0, 0.1, (6, 3, 8, 8)).astype(np.float32),
        "cls": rng.normal(0, 1, (1, 1, 6)).astype(np.float32),
        "flat": np.array([1 if batch == 1 else 0, 6, 16], np.int64),
        "first": np.array(0, np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["pixel_values", "kernel"], ["maps"], strides=[8, 8]),
        helper.make_node("Reshape", ["maps", "flat"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["patches"], perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["patches"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "cls"], ["token"]),
        helper.make_node("Concat", ["token", "patches"], ["last_hidden_state"], axis=1),
        helper.make_node("Gather", ["last_hidden_state", "first"], ["pooler_output"], axis=1),
    ]
    float_type = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tokens",
        [helper.make_tensor_value_info("pixel_values", float_type, [batch, 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info("last_hidden_state", float_type, [batch, 17, 6]),
            helper.make_tensor_value_info("pooler_output", float_type, [batch, 6]),
        ],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    if outside is None:
        onnx.save(model, path)
    else:
        onnx.save(model, path, save_as_external_data=True, location=outside, size_threshold=0)
    return arrays
