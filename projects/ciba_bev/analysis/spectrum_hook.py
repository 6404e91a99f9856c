"""Log the spectrum of a feature during training, which shows dimensional collapse."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from ..distillation.taps import FeatureTap, TapReader
from ..errors import CibaError, ConfigError
from ..registry import HOOKS
from .figures import draw_spectra, figure_to_image
from .spectra import FeatureCovariance


@HOOKS.register_module()
class SpectrumHook(Hook):
    """Log the singular-value spectrum of a feature, its effective rank and where its energy is.

    Features of training batches are accumulated since the last log, over all processes, without
    gradient. The visualizer gets, under ``spectrum/<module>/``, the scalars
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
        ConfigError: The model has no such submodule, has fewer channels than ``bottleneck_size``,
            or the interval is not positive.
        CibaError: A feature is NaN or infinite.
    """

    def __init__(
        self,
        tap: dict[str, Any] | None = None,
        bottleneck_size: int | None = None,
        interval: int | None = None,
    ) -> None:
        if interval is not None and interval < 1:
            raise ConfigError(
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
        """Find the submodule, so that a wrong name is reported before the first step."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if self.bottleneck_size is None:
            self.bottleneck_size = getattr(model, 'bottleneck_size', None)
        if self.tap is None:
            if not hasattr(model, 'student_tap'):
                raise ConfigError(
                    f'SpectrumHook: {type(model).__name__} distils no feature; say which one to '
                    'look at with tap=dict(module=...).'
                )
            self.tap, model = model.student_tap, model.student
        self._reader = self.tap.attach(model)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Start reading the tap."""
        self._attached()[1].__enter__()

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Accumulate the batch's feature, and log when the interval has passed."""
        tap, reader = self._attached()
        reader.__exit__(None, None, None)
        feature = reader.feature
        try:
            self._covariance.update(feature.detach())
        except CibaError as error:
            kind = ConfigError if isinstance(error, ConfigError) else CibaError
            raise kind(f'iteration {runner.iter + 1}, feature {tap.module}: {error}') from error
        if self.bottleneck_size is not None and not 1 <= self.bottleneck_size <= feature.size(1):
            raise ConfigError(
                f'SpectrumHook: bottleneck_size is {self.bottleneck_size}, but the feature '
                f'{tap.module} has {feature.size(1)} channels.'
            )
        self._iterations += 1
        if self.interval is not None and self._iterations >= self.interval:
            self._log(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Any) -> None:
        """Log the epoch, if no interval was set."""
        if self.interval is None:
            self._log(runner, runner.iter)

    def after_train(self, runner: Any) -> None:
        """Log the iterations since the last log."""
        self._log(runner, runner.iter)

    def _attached(self) -> tuple[FeatureTap, TapReader]:
        if self.tap is None or self._reader is None:
            raise RuntimeError('SpectrumHook: before_train was not called.')
        return self.tap, self._reader

    def _log(self, runner: Any, step: int) -> None:
        if self._iterations == 0:
            return
        module = self._attached()[0].module
        covariance, iterations = self._covariance, self._iterations
        self._covariance, self._iterations = FeatureCovariance(), 0
        covariance.all_reduce()
        name = f'spectrum/{module}'
        scalars = {f'{name}/effective_rank': covariance.effective_rank()}
        if self.bottleneck_size is not None:
            energy = covariance.channel_energy(self.bottleneck_size)
            scalars[f'{name}/variance_in_first_channels'] = energy.variance
            scalars[f'{name}/second_moment_in_first_channels'] = energy.second_moment
        values = covariance.singular_values()
        runner.message_hub.update_scalars(scalars)
        # Recomputed at the next log; no need to keep it in checkpoints.
        runner.message_hub.update_info(f'{name}/singular_values', values.tolist(), resumed=False)
        runner.visualizer.add_scalars(scalars, step=step)
        if values[0] > 0:
            title = f'Iterations {step - iterations + 1} to {step}'
            picture = figure_to_image(draw_spectra({module: values}, title))
            # No slash: the local backend makes a file of this name.
            runner.visualizer.add_image(f'spectrum_{module}', picture, step=step)
