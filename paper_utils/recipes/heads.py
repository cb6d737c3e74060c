"""Heads of a recipe, whole on every process or with their classes shared out over the processes.

Both start from the same proxies, which do not depend on the number of processes, so a sharded run can be compared with a whole one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from paper_utils.methods import sphereface2, sphereface_r
from paper_utils.nn.class_parallel import BinaryFamily, ClassParallel, SoftmaxFamily, first_proxies, shard
from paper_utils.nn.exchanges import Ranks
from paper_utils.recipes.published import HeadConfig

Loss = Callable[[Tensor, Tensor, torch.Generator | None], Tensor]


def whole_head(config: HeadConfig, dim: int, classes: int, seed: int) -> sphereface2.Head | sphereface_r.Head:
    """The head with all classes."""
    kind = sphereface2.Head if isinstance(config, sphereface2.HeadConfig) else sphereface_r.Head
    head = kind(dim, classes, config, seed=seed)
    head.proxies.data.copy_(first_proxies(classes, dim, seed, Ranks(alone=True)))
    return head


def shard_family(config: HeadConfig) -> BinaryFamily | SoftmaxFamily:
    """The loss as `ClassParallel` takes it, without the loss weight of SphereFace-R (see `shard_weight`).

    Raises
    ------
    ValueError
        If the head has a part that a shard cannot compute: the plain softmax's bias a class, a growing margin, SFN's penalty, or
        SphereFace+'s energy between proxies of different shards.
    """
    if isinstance(config, sphereface2.HeadConfig):
        return BinaryFamily(config)
    obstacles = {
        "the plain softmax has a bias for each class": config.psi == "softmax",
        "its margin grows": bool(config.growth_steps),
        "SFN adds a penalty": config.normalization == "SFN",
        "SphereFace+ compares proxies of different shards": bool(config.energy_weight),
    }
    found = [text for text, is_so in obstacles.items() if is_so]
    if found:
        raise ValueError(f"class-parallel: this head cannot be sharded, {'; '.join(found)}; leave --class-parallel out")
    psi, eta = sphereface_r.angular_functions(config.psi, config.margin)
    scale = config.scale if config.normalization == "HFN" else None
    return SoftmaxFamily(psi, eta, scale=scale, detach=config.detach)


def shard_weight(config: HeadConfig) -> float:
    """What the loss of `shard_family` is multiplied by: lw / s with HFN, lw with NFN."""
    if isinstance(config, sphereface2.HeadConfig) or config.loss_weight is None:
        return 1.0
    return config.loss_weight / (config.scale if config.normalization == "HFN" else 1.0)


def sharded_head(config: HeadConfig, dim: int, classes: int, seed: int, ranks: Ranks, rate: float) -> ClassParallel:
    """This process's shard of the head; its backbone is expected to average its gradient over the processes.

    Raises
    ------
    ValueError
        As `shard_family`, if there are fewer classes than processes, or if `rate` is outside (0, 1].
    """
    family = shard_family(config)
    inside = False
    if isinstance(config, sphereface2.HeadConfig):
        start = config.bias_start
        bias = sphereface2.balanced_bias(config, classes) if start == "balanced" else float(start)
        family, inside = BinaryFamily(config, bias), config.normalization == "graph"
    proxies = first_proxies(classes, dim, seed, ranks)
    head = ClassParallel(proxies, classes, family, ranks, inside=inside, rate=rate, averaged=True)
    if head.bias is not None:
        head.bias.requires_grad_(config.train_bias)
    return head


def loss_function(module: nn.Module, config: HeadConfig) -> Loss:
    """How a step calls the head, whole or sharded: embeddings, labels, and the source of sampled classes."""
    if not isinstance(module, ClassParallel):
        return lambda embeddings, labels, _: module(embeddings, labels)
    weight = shard_weight(config)
    return lambda embeddings, labels, generator: weight * module(embeddings, labels, generator)


# ------------------------------------------------------------------------------------------- checkpoints of sharded heads


def hold_whole_states(head: ClassParallel, optimizer: torch.optim.Optimizer) -> None:
    """From now on the state dictionaries of head and optimiser hold all classes, and loading them takes this process's rows.

    A checkpoint is then one file that any number of processes can resume. Taking a state dictionary becomes a collective call, and
    every process holds all proxies while it is written.

    Parameters
    ----------
    head
        The sharded head.
    optimizer
        Over the head's parameters, among others.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    place = next(index for index, parameter in enumerate(parameters) if parameter is head.proxies)

    def own(rows: Tensor) -> Tensor:
        mine = shard(head.classes, head.ranks.rank, head.ranks.size)
        return rows[mine.start : mine.stop]

    def per_class(state: dict[str, Any], change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        return {name: change(value) if _is_rows(value) else value for name, value in state.items()}

    def _is_rows(value: Any) -> bool:
        return isinstance(value, Tensor) and value.ndim == 2

    def gather_head(_: nn.Module, state: dict[str, Tensor], prefix: str, __: Any) -> None:
        state[f"{prefix}proxies"] = head.all_rows(state[f"{prefix}proxies"])

    def cut_head(_: nn.Module, state: dict[str, Tensor], prefix: str, *__: Any) -> None:
        state[f"{prefix}proxies"] = own(state[f"{prefix}proxies"])

    def gather_optimizer(_: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        if place in state["state"]:  # a new dictionary: the old one is the optimiser's own
            state["state"] = state["state"] | {place: per_class(state["state"][place], head.all_rows)}

    def cut_optimizer(_: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        state = copy.copy(state)
        if place in state["state"]:
            state["state"] = state["state"] | {place: per_class(state["state"][place], own)}
        return state

    head.register_state_dict_post_hook(gather_head)
    head.register_load_state_dict_pre_hook(cut_head)
    optimizer.register_state_dict_post_hook(gather_optimizer)
    optimizer.register_load_state_dict_pre_hook(cut_optimizer)
