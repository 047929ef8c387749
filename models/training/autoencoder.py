"""An autoencoder: it learns to repeat genuine payments, and repeats others badly."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from models.inputs import Rows
from models.training.trees import RAW, ROWS, model

FUNNEL: Final = (32, 16, 8)
"""Widths from the inputs to the middle, and back."""
DROPOUT: Final = 0.2
EPOCHS: Final = 40
"""At most."""
RATE: Final = 0.003
"""Of learning."""
PATIENCE: Final = 4
"""Epochs without a better error on later payments, after which training stops."""
BETTER: Final = 0.001
"""What the mean squared error falls by when it is better."""
BATCH: Final = 512
"""At most; of few payments less, so that an epoch has steps enough to learn by."""
STEPS: Final = 100
FARTHEST: Final = 0.02
"""Share of the rows, those farthest from the centre, that it does not learn: frauds that pass for genuine are mostly among them."""
MOST_ROWS: Final = 200_000
"""More are thinned evenly in time: they would only take longer."""
ERRORS: Final = "errors"


def fit(rows: Rows, epochs: int, seed: int, show: Callable[[int, int], object]) -> Any:
    """Fit on rows in time order, of which the last tenth says when to stop; `show` gets epochs done, and of how many. A Keras model."""
    keras = _keras()
    keras.utils.set_random_seed(seed)
    far = np.einsum("ij,ij->i", rows, rows)
    rows = rows[far <= np.quantile(far, 1 - FARTHEST)]
    rows = rows[:: -(-len(rows) // MOST_ROWS)]
    held_out = max(1, len(rows) // 10)
    network = _network(keras, rows.shape[1])
    stop = keras.callbacks.EarlyStopping(min_delta=BETTER, patience=PATIENCE, restore_best_weights=True)
    tell = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: show(epoch + 1, epochs))
    later = rows[-held_out:]
    network.fit(
        rows[:-held_out],
        rows[:-held_out],
        validation_data=(later, later),
        epochs=epochs,
        batch_size=min(BATCH, max(16, len(rows) // STEPS)),
        callbacks=[stop, tell],
        verbose=0,
    )
    return network


def _keras() -> Any:
    """Keras on TensorFlow, with equal results for equal seeds; seconds to import, so late. What TensorFlow says of itself helps nobody."""
    os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0")
    import keras
    import tensorflow

    tensorflow.config.experimental.enable_op_determinism()
    return keras


def _network(keras: Any, inputs: int) -> Any:
    """Its units saturate: what lies beyond all that they learnt is not repeated, as straight lines would."""
    widths = [width for width in FUNNEL if width < inputs] or [max(1, inputs // 2)]
    layers = [keras.Input((inputs,))]
    for width in widths:
        layers += [keras.layers.Dense(width, "tanh"), keras.layers.Dropout(DROPOUT)]
    layers.pop()  # none in the middle, which has no width to spare
    layers += [keras.layers.Dense(width, "tanh") for width in widths[-2::-1]]
    network = keras.Sequential([*layers, keras.layers.Dense(inputs)])
    network.compile(keras.optimizers.Adam(RATE), "mse")
    return network


def graph(network: Any) -> ModelProto:
    """Two outputs: the mean squared error of a row, and the squared error of each input.

    It reckons in 64 bits and rounds at the end: a payment then scores the same alone and in any chunk, in which sums of 32 bits run in
    another order.
    """
    dense = [layer for layer in network.layers if layer.get_weights()]
    nodes, constants, before = [helper.make_node("Cast", [ROWS], ["exact"], to=TensorProto.DOUBLE)], [], "exact"
    for number, layer in enumerate(dense):
        kernel, bias = layer.get_weights()
        constants += [
            numpy_helper.from_array(kernel.astype(np.float64), f"kernel{number}"),
            numpy_helper.from_array(bias.astype(np.float64), f"bias{number}"),
        ]
        nodes.append(helper.make_node("Gemm", [before, f"kernel{number}", f"bias{number}"], [f"sum{number}"]))
        before = f"sum{number}"
        if layer is not dense[-1]:
            nodes.append(helper.make_node("Tanh", [before], [f"out{number}"]))
            before = f"out{number}"
    nodes += [
        helper.make_node("Sub", ["exact", before], ["difference"]),
        helper.make_node("Mul", ["difference", "difference"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Cast", ["squares"], [ERRORS], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["mean"], [RAW], to=TensorProto.FLOAT),
    ]
    return model(nodes, dense[0].get_weights()[0].shape[0], (RAW, ERRORS), constants)


def mean_squared_error(network: Any, rows: Rows) -> Any:
    """As Keras itself has it."""
    return np.mean((network.predict(rows, batch_size=4096, verbose=0) - rows) ** 2, axis=1)


def original(network: Any) -> bytes:
    """The model as Keras saves it."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "autoencoder.keras"
        network.save(path)
        return path.read_bytes()
