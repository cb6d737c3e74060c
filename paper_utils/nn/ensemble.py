"""Many small networks of one shape, trained in one loop: a batched matrix product instead of a Python loop over seeds.

Member i of the ensemble is exactly the network it was made from; with a loss summed over members and an elementwise optimiser
(SGD, Adam, no global gradient clipping) each member follows the path it would follow alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Networks of one architecture, stacked along a new first dimension of every parameter.

    Parameters
    ----------
    members
        Networks that differ in nothing but their values. Batch normalisation is refused: its running statistics would be
        updated inside `vmap`.

    Raises
    ------
    ValueError
        If there is no member, the parameter shapes differ, or a member holds batch normalisation.

    Examples
    --------
    >>> ensemble = Ensemble([nn.Linear(4, 2) for _ in range(3)])
    >>> ensemble(torch.zeros(3, 5, 4)).shape
    torch.Size([3, 5, 2])
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(members) == 0:
            raise ValueError("members: an ensemble needs at least one network, found none")
        shapes = [{name: tuple(p.shape) for name, p in member.named_parameters()} for member in members]
        odd = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)
        if odd is not None:
            raise ValueError(
                f"members: member {odd} has other parameter shapes than member 0; all must share one architecture"
            )
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in members[0].modules()):
            raise ValueError(
                "members: batch normalisation keeps running statistics and cannot be stacked; use LayerNorm"
            )
        parameters, buffers = torch.func.stack_module_state(list(members))
        self.size = len(members)
        self._names = {name: name.replace(".", "__") for name in (*parameters, *buffers)}
        for name, value in parameters.items():
            self.register_parameter(self._names[name], nn.Parameter(value.detach().clone()))
        for name, value in buffers.items():
            self.register_buffer(self._names[name], value.detach().clone())
        # The template gives the computation only; its own values are never used, and it is no submodule (nothing to train or save).
        self._template = [copy.deepcopy(members[0]).to("meta")]

    def _stacked(self) -> dict[str, Tensor]:
        return {name: getattr(self, attribute) for name, attribute in self._names.items()}

    def forward(
        self, inputs: Float[Tensor, "*members batch features"], *, shared: bool = False
    ) -> Float[Tensor, "members batch *out"]:
        """Outputs of all members, ``[members, batch, ...]``.

        Parameters
        ----------
        inputs
            ``[members, batch, ...]``, each member its own batch; or ``[batch, ...]`` with ``shared=True``.
        shared
            True: all members see the same inputs.

        Raises
        ------
        ValueError
            If the first dimension is not the number of members.
        """
        if not shared and inputs.shape[0] != self.size:
            raise ValueError(
                f"inputs: expected a first dimension of {self.size} (one batch a member), found shape {tuple(inputs.shape)}; "
                "pass shared=True to give all members the same batch"
            )
        template = self._template[0]
        template.train(self.training)

        def one(values: dict[str, Tensor], x: Tensor) -> Tensor:
            return torch.func.functional_call(template, values, (x,))

        return torch.func.vmap(one, in_dims=(0, None if shared else 0), randomness="different")(self._stacked(), inputs)

    def member_state(self, index: int) -> dict[str, Tensor]:
        """State of one member under the names of its own architecture, ready for ``load_state_dict``."""
        return {name: value.detach()[index].clone() for name, value in self._stacked().items()}
