"""Algorithm 2 as a model: a student learns its task and the code of its teacher's feature.

h' = e(f'(X'))                              frozen teacher f', frozen encoder e
z  = f(X)                                   the trained student's feature
l  = l_task + weight * || h' - z[0:H] ||^2  the first H of the student's channels only
"""

from __future__ import annotations

from typing import Any, Sequence

import torch
from mmengine.dist import all_reduce
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..errors import ConfigError
from ..finiteness import require_finite
from ..registry import MODELS, TASK_UTILS
from .bottleneck_training import load_bottleneck
from .feature_cache import identify
from .frozen_model import MOVE_TO_DEVICE, FrozenModel, select_inputs
from .taps import FeatureTap, Window, crop

_PREFIX = 'student.'


@MODELS.register_module()
class Distiller(BaseModel):
    r"""Train a student with its own loss and a distillation loss on one of its features.

    With a bottleneck this is CIBA: the target is the teacher's H-channel code, and only the
    student's first H channels are compared with it. Without one the target is the teacher's whole
    feature (the paper's MSE baselines). In checkpoints and predictions a distiller is its
    student: same names, same outputs.

    Args:
        student: Config of the student model.
        student_tap: Where its feature is read; arguments of :class:`FeatureTap`.
        teacher: Arguments of :class:`FrozenModel`: config, checkpoint, tap, inputs, precision.
        bottleneck: ``checkpoint`` of an Algorithm 1 run, the ``config`` that made it, and the
            ``size`` H; None to distil the whole feature.
        loss: Config of the distillation loss, on (B, H, \*grid) student and target.
        loss_weight: Weight of the distillation loss; in the paper it equals that of the task loss.
        target: ``'mean'`` takes the mean of the code's distribution, ``'sample'`` a sample of it.
            The paper does not say; the mean is the default because noise in a squared error only
            increases the variance of its gradient.
        normalize_target: Bring every channel of the target to zero mean and unit variance over
            batch and cells, of all processes.
        target_weight: Config of a component that returns a weight (B, 1, \*grid) for the batch's
            data samples, for losses that take one; None for equal weights.
        student_inputs: Keys of the batch's inputs that the student gets; None for all.
        cache_targets: Keep every sample's target in memory, so that the teacher runs in the first
            epoch only. The losses stay the same if nothing random happens to the teacher's inputs.
            For data sets whose targets fit: 4 bytes for each sample, channel and cell, in each
            process.

    Raises:
        ConfigError: A value is not allowed, or a config or a tap does not exist.
    """

    def __init__(
        self,
        student: dict[str, Any],
        student_tap: dict[str, Any],
        teacher: dict[str, Any],
        bottleneck: dict[str, Any] | None = None,
        loss: dict[str, Any] | None = None,
        loss_weight: float = 1.0,
        target: str = 'mean',
        normalize_target: bool = False,
        target_weight: dict[str, Any] | None = None,
        student_inputs: Sequence[str] | None = None,
        cache_targets: bool = False,
    ) -> None:
        if target not in ('mean', 'sample'):
            raise ConfigError(f"target is {target!r}; it must be 'mean' or 'sample'.")
        if cache_targets and target == 'sample':
            raise ConfigError("cache_targets=True would sample only once; set target='mean'.")
        if bottleneck is not None and set(bottleneck) != {'checkpoint', 'config', 'size'}:
            raise ConfigError(
                f'bottleneck has {sorted(bottleneck)}; it needs checkpoint, config and size.'
            )
        teacher_model = FrozenModel('teacher', **teacher)
        with MODELS.switch_scope_and_registry(None) as registry:
            student_model = registry.build(student)
        super().__init__(data_preprocessor=dict(MOVE_TO_DEVICE))
        self.student = student_model
        self.student_inputs = student_inputs
        self.teacher = teacher_model
        self.student_tap = FeatureTap(**student_tap)
        self.student_tap.attach(self.student)
        self.bottleneck_config = bottleneck
        self.loss = MODELS.build(loss or dict(type='ciba_bev.MSELoss'))
        self.loss_weight = loss_weight
        self.target = target
        self.normalize_target = normalize_target
        self.target_weight = None if target_weight is None else TASK_UTILS.build(target_weight)
        self.cache_targets = cache_targets
        self._targets: dict[str, tuple[Tensor, Window]] = {}
        self._register_state_dict_hook(_drop_prefix)
        self._register_load_state_dict_pre_hook(_add_prefix)

    def init_weights(self) -> None:
        """Initialise the student, and load the weights of teacher and bottleneck.

        Raises:
            CibaError: A checkpoint is missing, of another model, or does not fit the others.
        """
        self.student.init_weights()
        self.load_frozen_models()

    def load_frozen_models(self) -> None:
        """Load the weights of teacher and bottleneck, once.

        Only the distillation loss needs them; validation and testing run the student alone.

        Raises:
            CibaError: A checkpoint is missing, of another model, or does not fit the others.
        """
        self.teacher.ensure_loaded()
        if self.bottleneck_config is not None and self.teacher.encoder is None:
            self.teacher.encoder = load_bottleneck(teacher=self.teacher, **self.bottleneck_config)

    @property
    def bottleneck_size(self) -> int | None:
        """Channels H of the code; None if the whole feature is distilled."""
        return None if self.bottleneck_config is None else int(self.bottleneck_config['size'])

    def checkpoint_metadata(self) -> dict[str, Any]:
        """Return how this student was distilled, as plain values."""
        bottleneck = self.bottleneck_config
        method = type(self.loss).__name__
        return {
            'kind': 'distilled student',
            'method': f'{method} on a code of {bottleneck["size"]}' if bottleneck else method,
            'bottleneck': dict(bottleneck) if bottleneck else None,
            'teacher': self.teacher.describe(),
            'student_tap': self.student_tap.describe(),
        }

    def forward(self, mode: str = 'tensor', **data: Any) -> Any:
        """Run the student; in training also compute the distillation loss.

        Args:
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.
            data: ``inputs`` and ``data_samples``, as the data loader gives them.

        Returns:
            For ``'loss'``, the student's losses and ``loss_distillation``; otherwise what the
            student returns.
        """
        training = mode == 'loss'
        selected = select_inputs(data, self.student_inputs, 'student') if training else data
        batch = self.student.data_preprocessor(selected, training)
        if not training:
            return self.student(**batch, mode=mode)
        with self.student_tap.attach(self.student) as reader:
            losses = self.student(**batch, mode='loss')
        return {**losses, 'loss_distillation': self._distillation_loss(reader.feature, data)}

    def _distillation_loss(self, student_feature: Tensor, data: dict[str, Any]) -> Tensor:
        self.load_frozen_models()
        target, window = self._target(data, student_feature)
        feature = crop(student_feature, window)
        channels, width = target.size(1), feature.size(1)
        if self.bottleneck_size is None and channels != width:
            raise ConfigError(
                f"the teacher's feature has {channels} channels and the student's at "
                f'{self.student_tap.module} has {width}. Choose another tap, or distil a code '
                '(bottleneck=dict(...)), which needs no equal widths.'
            )
        if channels > width:
            raise ConfigError(
                f"the code has {channels} channels and the student's feature at "
                f'{self.student_tap.module} has {width}. Take a smaller bottleneck.'
            )
        if self.normalize_target:
            target = _normalize(target)
        arguments = [feature[:, :channels], target]
        if self.target_weight is not None:
            weight = self.target_weight(data['data_samples'], tuple(student_feature.shape[2:]))
            arguments.append(crop(weight, window).to(target))
        loss: Tensor = self.loss_weight * self.loss(*arguments)
        require_finite(loss, "the distillation loss (the student's feature)", data)
        return loss

    def _target(self, data: dict[str, Any], student_feature: Tensor) -> tuple[Tensor, Window]:
        """Return the target and its window, from memory if all of the batch was there before."""
        names = [identify(sample) for sample in data['data_samples']] if self.cache_targets else []
        if names and all(name in self._targets for name in names):
            targets, windows = zip(*(self._targets[name] for name in names))
            return torch.stack(targets).to(student_feature.device), windows[0]
        target, window = self.teacher.target(
            data, student_feature, self.student_tap, sample=self.target == 'sample'
        )
        # Copies: a view would keep the whole batch.
        self._targets.update(
            (name, (value.cpu().clone(), window)) for name, value in zip(names, target)
        )
        return target, window


def _normalize(target: Tensor) -> Tensor:
    """Bring channels to zero mean and unit variance over batch and cells of all processes."""
    values = target.transpose(0, 1).flatten(1).double()
    sums = torch.stack(
        (torch.full_like(values[:, 0], values.size(1)), values.sum(1), values.square().sum(1))
    )
    all_reduce(sums)
    count, first, second = sums
    mean = first / count
    deviation = (second / count - mean.square()).clamp(min=0).sqrt()
    shape = (1, -1) + (1,) * (target.dim() - 2)
    # A constant channel becomes zero instead of amplified rounding error.
    scale = torch.where(deviation > 0, 1 / deviation, torch.zeros_like(deviation))
    normalized: Tensor = (target.double() - mean.view(shape)) * scale.view(shape)
    return normalized.to(target.dtype)


def _drop_prefix(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any]
) -> None:
    """Keep only the student's entries of a ``state_dict()``, under the student's own names."""
    metadata = getattr(state_dict, '_metadata', {})
    root = metadata.get(prefix + _PREFIX[:-1], {})
    for entries in (state_dict, metadata):
        for name in [name for name in entries if name.startswith(prefix)]:
            value = entries.pop(name)
            if name.startswith(prefix + _PREFIX):
                entries[prefix + name[len(prefix + _PREFIX) :]] = value
    metadata[prefix[:-1]] = root


def _add_prefix(
    state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *unused: Any
) -> None:
    """Rename the student's entries to those of the distiller, before ``load_state_dict()``."""
    metadata = getattr(state_dict, '_metadata', None) or {}
    for name in [name for name in state_dict if name.startswith(prefix)]:
        state_dict[prefix + _PREFIX + name[len(prefix) :]] = state_dict.pop(name)
    for name in [name for name in metadata if name.startswith(prefix)]:
        metadata.setdefault(prefix + _PREFIX + name[len(prefix) :], metadata[name])
