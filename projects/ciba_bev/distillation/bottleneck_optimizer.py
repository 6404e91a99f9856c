"""One optimizer step for each of several bottlenecks trained at once."""

from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIMIZERS
from torch import nn

from ..errors import CibaError
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS
from .bottleneck_training import BottleneckTraining


@OPTIM_WRAPPERS.register_module()
class BottleneckOptimWrapper(OptimWrapper):
    """Clips the gradient of each parameter group by itself.

    The optimizers in use (AdamW, SGD) update every parameter from its own gradient and history, so
    with one group a bottleneck each one takes the step it would take alone.
    """

    def _clip_grad(self) -> None:
        for group in self.optimizer.param_groups:
            params = [p for p in group['params'] if p.requires_grad and p.grad is not None]
            norm = self.clip_func(params, **self.clip_grad_kwargs) if params else None
            if norm is not None:
                self.message_hub.update_scalar(
                    f'train/{self.grad_name}_{group["bottleneck"]}', float(norm)
                )


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class BottleneckOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Builds the optimizer of a :class:`BottleneckTraining` with one parameter group a bottleneck.

    Args:
        optim_wrapper_cfg: Config of :class:`BottleneckOptimWrapper` and, within, the optimizer.
        paramwise_cfg: Not supported, must be None.

    Raises:
        CibaError: The model is no :class:`BottleneckTraining`.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapper for a model, wrapped for distributed training or not."""
        model = getattr(model, 'module', model)
        if not isinstance(model, BottleneckTraining):
            raise CibaError(
                'BottleneckOptimWrapperConstructor is for BottleneckTraining, not for '
                f'{type(model).__name__}; remove it from optim_wrapper.'
            )
        groups = [
            {'params': list(bottleneck.parameters()), 'bottleneck': name}
            for name, bottleneck in model.bottlenecks.items()
        ]
        optimizer = OPTIMIZERS.build(dict(self.optimizer_cfg, params=groups))
        wrapper = dict(self.optim_wrapper_cfg)
        wrapper.setdefault('type', 'ciba_bev.BottleneckOptimWrapper')
        return OPTIM_WRAPPERS.build(wrapper, default_args=dict(optimizer=optimizer))
