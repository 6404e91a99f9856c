"""Watching a feature collapse, or not, while a model is trained."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from ..distillation.taps import FeatureTap, TapReader
from ..errors import CibaError
from ..registry import HOOKS
from .figures import draw_spectra, figure_to_image
from .spectra import FeatureCovariance


@HOOKS.register_module()
class SpectrumHook(Hook):
    """Logs the singular-value spectrum of a feature, its effective rank and where its energy is.

    Features of training batches are accumulated since the last log, over all processes, and do not
    touch the gradient. The visualizer gets, under ``spectrum/<module>/``, the scalars
    ``effective_rank`` and, with ``bottleneck_size`` H, ``variance_in_first_channels`` and
    ``second_moment_in_first_channels`` (shares held by channels [0:H], 0 to 1; the other channels
    hold the rest), and the spectrum as a picture. The message hub gets the same scalars, and the
    singular values as ``spectrum/<module>/singular_values``.

    Args:
        tap: Which feature; arguments of :class:`FeatureTap`, its module named as in the trained
            model. None for the feature that a distiller distils into.
        bottleneck_size: Number H of leading channels to compare with the rest; None for a
            distiller's own, and for none in other models.
        interval: Training iterations between logs; None logs at the end of each epoch.

    Raises:
        CibaError: The model has no such submodule, has fewer channels than ``bottleneck_size``, or
            gives NaN or infinite features; or the interval is not positive.
    """

    def __init__(
        self,
        tap: dict | None = None,
        bottleneck_size: int | None = None,
        interval: int | None = None,
    ) -> None:
        if interval is not None and interval < 1:
            raise CibaError(
                f'SpectrumHook: interval is {interval}; it counts iterations and must be at '
                'least 1, or None for once an epoch.'
            )
        self.tap = None if tap is None else FeatureTap(**tap)
        self.bottleneck_size = bottleneck_size
        self.interval = interval
        self._covariance = FeatureCovariance()
        self._iterations = 0
        self._reader: TapReader | None = None

    def before_train(self, runner: Any) -> None:
        """Find the submodule, so that a wrong name is told before the first step."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if self.bottleneck_size is None:
            self.bottleneck_size = getattr(model, 'bottleneck_size', None)
        if self.tap is None:
            if not hasattr(model, 'student_tap'):
                raise CibaError(
                    f'SpectrumHook: {type(model).__name__} distils no feature; say which one to '
                    'look at with tap=dict(module=...).'
                )
            self.tap, model = model.student_tap, model.student
        self._reader = self.tap.attach(model)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Listen at the tap."""
        self._reader.__enter__()

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Take in the batch's features, and log when it is time."""
        self._reader.__exit__(None, None, None)
        feature = self._reader.feature
        try:
            self._covariance.update(feature.detach())
        except CibaError as error:
            raise CibaError(
                f'iteration {runner.iter + 1}, feature {self.tap.module}: {error}'
            ) from error
        if self.bottleneck_size is not None and not 1 <= self.bottleneck_size <= feature.size(1):
            raise CibaError(
                f'SpectrumHook: bottleneck_size is {self.bottleneck_size}, but the feature '
                f'{self.tap.module} has {feature.size(1)} channels.'
            )
        self._iterations += 1
        if self.interval is not None and self._iterations >= self.interval:
            self._log(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Any) -> None:
        """Log the epoch, if no interval was set."""
        if self.interval is None:
            self._log(runner, runner.iter)

    def after_train(self, runner: Any) -> None:
        """Log what has come since the last log."""
        self._log(runner, runner.iter)

    def _log(self, runner: Any, step: int) -> None:
        if self._iterations == 0:
            return
        covariance, iterations = self._covariance, self._iterations
        self._covariance, self._iterations = FeatureCovariance(), 0
        covariance.all_reduce()
        name = f'spectrum/{self.tap.module}'
        scalars = {f'{name}/effective_rank': covariance.effective_rank()}
        if self.bottleneck_size is not None:
            energy = covariance.channel_energy(self.bottleneck_size)
            scalars[f'{name}/variance_in_first_channels'] = energy.variance
            scalars[f'{name}/second_moment_in_first_channels'] = energy.second_moment
        values = covariance.singular_values()
        runner.message_hub.update_scalars(scalars)
        # It can be had again; a checkpoint need not carry it.
        runner.message_hub.update_info(f'{name}/singular_values', values.tolist(), resumed=False)
        runner.visualizer.add_scalars(scalars, step=step)
        if values[0] > 0:
            title = f'Iterations {step - iterations + 1} to {step}'
            picture = figure_to_image(draw_spectra({self.tap.module: values}, title))
            # No slash: the local backend makes a file of this name.
            runner.visualizer.add_image(f'spectrum_{self.tap.module}', picture, step=step)
