"""Forests as one ONNX node each, read from the originals: what serves is the same trees, some hundred times faster for one payment."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from models.inputs import Vector

RAW: Final = "raw"
"""The output that is a score, one number for a row."""
ROWS: Final = "rows"
SURE: Final = 1e-7
"""A share of votes is kept this far from 0 and 1, where log-odds end."""
_OPSETS: Final = (helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3))
_IR_VERSION: Final = 10
_LEAF: Final = -1


class Tree(NamedTuple):
    """Nodes by their place. A row goes left where its feature compares with the threshold, or is null and `null_left` says so."""

    left: Vector
    """-1 in a leaf."""
    right: Vector
    feature: Vector
    threshold: Vector
    null_left: Vector
    value: Vector
    """What a leaf adds to the score."""


def isolation_forest(forest: Any) -> ModelProto:
    """Scikit-learn's `score_samples` without its sign: 0 to 1, 1 is most anomalous."""
    unit = len(forest.estimators_) * float(_average_path(np.array([forest.max_samples_]))[0])
    trees = (
        _of_scikit(tree.tree_, (_depths(tree.tree_) + _average_path(tree.tree_.n_node_samples)) / unit, chosen)
        for tree, chosen in zip(forest.estimators_, forest.estimators_features_, strict=True)
    )
    tail = [
        helper.make_node("Neg", ["sum"], ["shorter"]),
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Pow", ["two", "shorter"], [RAW]),
    ]
    return model([_ensemble(list(trees), "BRANCH_LEQ"), *tail], forest.n_features_in_)


def random_forest(forest: Any) -> ModelProto:
    """Log-odds of the share of votes for fraud."""
    number = len(forest.estimators_)
    inputs = np.arange(forest.n_features_in_)
    trees = [_of_scikit(tree.tree_, tree.tree_.value[:, 0, 1] / number, inputs) for tree in forest.estimators_]
    tail = [
        helper.make_node("Constant", [], ["least"], value_float=SURE),
        helper.make_node("Constant", [], ["most"], value_float=1.0 - SURE),
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Clip", ["sum", "least", "most"], ["share"]),
        helper.make_node("Sub", ["one", "share"], ["rest"]),
        helper.make_node("Div", ["share", "rest"], ["odds"]),
        helper.make_node("Log", ["odds"], [RAW]),
    ]
    return model([_ensemble(trees, "BRANCH_LEQ"), *tail], forest.n_features_in_)


def boosted(booster: Any) -> ModelProto:
    """Log-odds, as XGBoost's `output_margin`."""
    learner = json.loads(booster.save_raw("json"))["learner"]
    base = float(learner["learner_model_param"]["base_score"].strip("[]"))
    trees = [_of_xgboost(tree) for tree in learner["gradient_booster"]["model"]["trees"]]
    ensemble = _ensemble(trees, "BRANCH_LT", np.log(base / (1.0 - base)), RAW)
    return model([ensemble], int(learner["learner_model_param"]["num_feature"]))


def model(nodes: Sequence[NodeProto], inputs: int, outputs: Sequence[str] = (RAW,), constants: Sequence[TensorProto] = ()) -> ModelProto:
    """A graph from rows of `inputs` numbers."""
    graph = helper.make_graph(
        list(nodes),
        "aegis",
        [helper.make_tensor_value_info(ROWS, TensorProto.FLOAT, ["n", inputs])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        list(constants),
    )
    return helper.make_model(graph, opset_imports=_OPSETS, ir_version=_IR_VERSION, producer_name="aegis")


def _ensemble(trees: Sequence[Tree], branch: str, base: float = 0.0, output: str = "sum") -> NodeProto:
    leaves = [tree.left == _LEAF for tree in trees]
    nodes = [np.arange(len(tree.left)) for tree in trees]
    return helper.make_node(
        "TreeEnsembleRegressor",
        [ROWS],
        [output],
        domain="ai.onnx.ml",
        n_targets=1,
        base_values=[float(base)],
        nodes_treeids=_joined(np.full(len(tree.left), number) for number, tree in enumerate(trees)),
        nodes_nodeids=_joined(nodes),
        nodes_modes=[mode for leaf in leaves for mode in np.where(leaf, "LEAF", branch).tolist()],
        nodes_featureids=_joined(np.where(leaf, 0, tree.feature) for tree, leaf in zip(trees, leaves, strict=True)),
        nodes_values=_joined(np.where(leaf, 0.0, tree.threshold) for tree, leaf in zip(trees, leaves, strict=True)),
        nodes_truenodeids=_joined(np.where(leaf, 0, tree.left) for tree, leaf in zip(trees, leaves, strict=True)),
        nodes_falsenodeids=_joined(np.where(leaf, 0, tree.right) for tree, leaf in zip(trees, leaves, strict=True)),
        nodes_missing_value_tracks_true=_joined(np.where(leaf, 0, tree.null_left) for tree, leaf in zip(trees, leaves, strict=True)),
        target_treeids=_joined(np.full(leaf.sum(), number) for number, leaf in enumerate(leaves)),
        target_nodeids=_joined(places[leaf] for places, leaf in zip(nodes, leaves, strict=True)),
        target_ids=[0] * int(sum(leaf.sum() for leaf in leaves)),
        target_weights=_joined(tree.value[leaf] for tree, leaf in zip(trees, leaves, strict=True)),
    )


def _joined(parts: Iterator[Vector] | Sequence[Vector]) -> list[Any]:
    joined: list[Any] = np.concatenate(list(parts)).tolist()
    return joined


def _of_scikit(tree: Any, value: Vector, inputs: Vector) -> Tree:
    return Tree(
        left=tree.children_left,
        right=tree.children_right,
        feature=np.where(tree.feature < 0, 0, inputs[tree.feature]),
        threshold=_rounded_down(tree.threshold),
        null_left=tree.missing_go_to_left,
        value=value,
    )


def _of_xgboost(tree: dict[str, Any]) -> Tree:
    conditions = np.array(tree["split_conditions"], np.float32)
    return Tree(
        left=np.array(tree["left_children"]),
        right=np.array(tree["right_children"]),
        feature=np.array(tree["split_indices"]),
        threshold=conditions,
        null_left=np.array(tree["default_left"]),
        value=conditions,
    )


def _rounded_down(thresholds: Vector) -> Vector:
    """To numbers of 32 bits, so that each of those compares with them as with the originals."""
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def _depths(tree: Any) -> Vector:
    """Of each node, the root's being 0. Parents come before their children."""
    depths = np.zeros(tree.node_count)
    for node, (left, right) in enumerate(zip(tree.children_left, tree.children_right, strict=True)):
        if left != _LEAF:
            depths[[left, right]] = depths[node] + 1
    return depths


def _average_path(samples: Vector) -> Vector:
    """c(n) of Liu, Ting and Zhou (2008): the mean depth of an unsuccessful search in a tree of n."""
    n = np.maximum(samples, 3).astype(np.float64)
    long = 2.0 * (np.log(n - 1.0) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.where(samples <= 1, 0.0, np.where(samples == 2, 1.0, long))
