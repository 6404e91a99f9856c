"""Optimizers whose step costs as many launches as there are settings, not parameters."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIMIZERS
from torch import nn

from ..registry import OPTIM_WRAPPER_CONSTRUCTORS

# Where mmengine notes the factor that a group's setting was multiplied by. No optimizer reads them.
_FACTORS = ('lr_mult', 'decay_mult')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Builds mmengine's optimizer, with one parameter group for each distinct setting.

    With ``paramwise_cfg`` mmengine's own constructor makes a group of every parameter, and torch
    updates group by group. The updates are the same here. An optimizer that has a fused kernel for
    the model's device uses it, unless its config says ``fused`` or ``foreach``.

    Args:
        optim_wrapper_cfg: Config of the wrapper and, within, the optimizer.
        paramwise_cfg: mmengine's rules for single parameters.
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Append the groups of a module; those of the whole model are merged.

        Args:
            params: Groups so far; changed in place.
            module: Its parameters, and those of what it contains, are added.
            prefix: Its name in the model.
            is_dcn_module: mmengine's: whether it is part of a deformable convolution.
        """
        super().add_params(params, module, prefix=prefix, is_dcn_module=is_dcn_module)
        if not prefix:
            defaults = dict(lr=self.base_lr, weight_decay=self.base_wd)
            params[:] = merge_groups(
                params, **{name: value for name, value in defaults.items() if value is not None}
            )

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapper for a model, wrapped for distributed training or not."""
        if not {'fused', 'foreach'} & self.optimizer_cfg.keys():
            with OPTIMIZERS.switch_scope_and_registry(None) as registry:
                kind = self.optimizer_cfg['type']
                kind = registry.get(kind) if isinstance(kind, str) else kind
            if has_fused_kernel(kind, {parameter.device for parameter in model.parameters()}):
                self.optimizer_cfg = dict(self.optimizer_cfg, fused=True)
        return super().__call__(model)


def merge_groups(groups: list[dict[str, Any]], **defaults: Any) -> list[dict[str, Any]]:
    """Return one parameter group for each distinct setting.

    Args:
        groups: Parameter groups as torch's optimizers take them.
        defaults: Settings of groups that do not have their own.

    Returns:
        The merged groups, in the order of their first parameters; parameters keep their order.
    """
    merged: list[dict[str, Any]] = []
    for group in groups:
        settings = {**defaults, **group}
        for name in ('params', *_FACTORS):
            settings.pop(name, None)
        for known in merged:
            if dict(settings, params=known['params']) == known:
                known['params'].extend(group['params'])
                break
        else:
            merged.append(dict(settings, params=list(group['params'])))
    return merged


def has_fused_kernel(kind: type, devices: set[torch.device]) -> bool:
    """Whether this torch updates parameters on these devices in one kernel.

    Args:
        kind: Class of the optimizer.
        devices: Where the parameters are.
    """
    if 'fused' not in inspect.signature(kind).parameters:
        return False
    probes = [nn.Parameter(torch.zeros(1, device=device)) for device in devices]
    try:
        # Which devices have one depends on torch and on the optimizer; its constructor knows.
        kind(probes, lr=0.1, fused=True)
    except RuntimeError:
        return False
    return True
