"""Algorithm 1 as a model: learn to generate the student's feature from the teacher's.

Z', Z = f'(X'), f_u(X)                      features of the frozen teacher and student
l_gen = || d(e(z')) - z ||^2                cross-modal generation (Eq. 7, first term)
l_reg = KL(e(z') || N(0, I))                information of the code on the teacher (second term)
minimise l_gen + lambda * l_reg             over encoder e and decoder d
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence, cast

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.model import BaseModel
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIMIZERS
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ..errors import CibaError, ConfigError
from ..finiteness import check_now
from ..registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS
from ..shell import training_command
from .bottlenecks import Bottleneck
from .cell_means import CellMeans, CenteredBottleneck
from .feature_cache import FeatureCache
from .frozen_model import MOVE_TO_DEVICE, FrozenModel
from .hooks import CHECKPOINT_KEY
from .taps import crop


@MODELS.register_module()
class BottleneckTraining(BaseModel):
    """Train bottlenecks of several sizes at once on the same pair of features (Algorithm 1).

    The two frozen models run once for all sizes. With the quickstart's models, on a CPU, they take
    83 % of a step that trains one size, 55 % with five sizes and 42 % with seven; where features
    come from the cache they do not run at all. The bottlenecks are independent: initial weights and
    noise depend only on ``seed`` and the size, and :class:`BottleneckOptimWrapper` clips the
    gradient of each one separately.

    Args:
        teacher: Arguments of :class:`FrozenModel`: config, checkpoint, tap, inputs, precision.
        student: The same, of the student trained without distillation.
        bottleneck: Config of the bottleneck, without its size.
        bottleneck_sizes: One bottleneck is trained for each.
        seed: Seed of initial weights and noise.
        feature_cache: Folder to store features in, so that the frozen models run in the first
            epoch only; for data sets that fit on disk and pipelines without augmentation.
            Features are then rounded to half precision, in the first epoch too. None disables
            the cache.
        subtract_cell_means: Remove from both features the mean of each cell over the training set
            (:class:`CellMeansHook` measures it), here and from the teacher's feature in
            distillation, so that no code is spent on what every frame has in common.

    Raises:
        ConfigError: Sizes are missing, repeated, or larger than a feature.
    """

    def __init__(
        self,
        teacher: dict[str, Any],
        student: dict[str, Any],
        bottleneck: dict[str, Any],
        bottleneck_sizes: Sequence[int] = (2, 4, 8, 16, 32, 64, 128),
        seed: int = 0,
        feature_cache: str | None = None,
        subtract_cell_means: bool = False,
    ) -> None:
        if not bottleneck_sizes or len(set(bottleneck_sizes)) != len(bottleneck_sizes):
            raise ConfigError(
                f'bottleneck_sizes is {list(bottleneck_sizes)}; give each size once, at least one.'
            )
        teacher_model = FrozenModel('teacher', **teacher)
        student_model = FrozenModel('student', **student)
        super().__init__(data_preprocessor=dict(MOVE_TO_DEVICE))
        self.teacher = teacher_model
        self.student = student_model
        self.bottleneck_config = dict(bottleneck)
        self.bottleneck_sizes = tuple(int(size) for size in bottleneck_sizes)
        self.seed = seed
        self.cache_folder = feature_cache
        self._cache: FeatureCache | None = None
        self.bottlenecks = nn.ModuleDict(
            {
                f'h{size}': MODELS.build(dict(bottleneck, bottleneck_size=size))
                for size in self.bottleneck_sizes
            }
        )
        self.cell_means = CellMeans() if subtract_cell_means else None
        # Saved in the checkpoint, so that a resumed training continues with the same noise.
        self.register_buffer('steps', torch.zeros((), dtype=torch.long))

    def init_weights(self) -> None:
        """Initialise every bottleneck from the seed, and load the weights of the frozen models.

        Raises:
            CibaError: A checkpoint is missing or belongs to another model.
        """
        for _, bottleneck in self.named_bottlenecks():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                bottleneck.init_weights()
        self.load_frozen_models()

    def named_bottlenecks(self) -> list[tuple[str, Bottleneck]]:
        """Return name (``h<H>``) and bottleneck of each size."""
        return cast('list[tuple[str, Bottleneck]]', list(self.bottlenecks.items()))

    def load_frozen_models(self) -> None:
        """Load the weights of the frozen models and open the cache of their features, once.

        mmengine calls :meth:`init_weights` in training only; testing calls this with its first
        batch.

        Raises:
            CibaError: A checkpoint is missing or belongs to another model.
        """
        self.teacher.ensure_loaded()
        self.student.ensure_loaded()
        if self.cache_folder is not None and self._cache is None:
            pair = {'teacher': self.teacher.describe(), 'student': self.student.describe()}
            self._cache = FeatureCache(self.cache_folder, pair)

    def checkpoint_metadata(self) -> dict[str, Any]:
        """Return what a distiller needs to know about these bottlenecks, as plain values."""
        return {
            'kind': 'bottlenecks',
            'sizes': list(self.bottleneck_sizes),
            'bottleneck': _plain(self.bottleneck_config),
            'subtract_cell_means': self.cell_means is not None,
            'teacher': self.teacher.describe(),
            'student': self.student.describe(),
        }

    def forward(self, mode: str = 'loss', **data: Any) -> dict[str, Tensor] | list[dict[str, Any]]:
        r"""Compute the losses of a training batch, or what validation measures.

        Args:
            mode: ``'loss'`` or ``'predict'``.
            data: ``inputs`` and ``data_samples``, as the data loader gives them.

        Returns:
            For ``'loss'``, for each size H, ``h<H>.loss_generation`` and, weighted by lambda,
            ``h<H>.loss_regularization``. For ``'predict'``, one dict for the batch: the features
            ``teacher`` (B, C', \*grid) and ``student`` (B, C, \*grid), and ``h<H>``, the
            :class:`BottleneckEvaluation` of that bottleneck.

        Raises:
            CibaError: A frozen model cannot be loaded, or the bottlenecks are neither trained nor
                loaded.
        """
        # Before the features: to read the number of steps waits for all that the device has to do.
        noise_seed = self._next_noise_seed() if mode == 'loss' else None
        teacher_feature, student_feature = self.read_features(data)
        if self.cell_means is not None:
            teacher_feature, student_feature = self.cell_means(teacher_feature, student_feature)
        if noise_seed is not None:
            return self._losses(teacher_feature, student_feature, noise_seed)
        return self._measure(teacher_feature, student_feature)

    def _next_noise_seed(self) -> int:
        """Count a step, and return a seed that is the same however many bottlenecks there are."""
        self.steps += 1
        entropy = (self.seed, get_rank(), int(self.steps))
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def _losses(
        self, teacher_feature: Tensor, student_feature: Tensor, noise_seed: int
    ) -> dict[str, Tensor]:
        losses = {}
        for name, bottleneck in self.named_bottlenecks():
            generator = torch.Generator(teacher_feature.device).manual_seed(noise_seed)
            own = bottleneck(teacher_feature, student_feature, generator)
            losses.update({f'{name}.{loss}': value for loss, value in own.items()})
        return losses

    def _measure(self, teacher_feature: Tensor, student_feature: Tensor) -> list[dict[str, Any]]:
        if self.steps == 0:
            raise CibaError(
                'these bottlenecks were not trained for a single step, so there is nothing to '
                'measure. Give a checkpoint of an Algorithm 1 run.'
            )
        evaluations = {
            name: bottleneck.evaluate(teacher_feature, student_feature)
            for name, bottleneck in self.named_bottlenecks()
        }
        return [{'teacher': teacher_feature, 'student': student_feature, **evaluations}]

    def read_features(self, data: dict[str, Any]) -> tuple[Tensor, Tensor]:
        r"""Read the features of a batch, or take them from the cache.

        Args:
            data: ``inputs`` and ``data_samples``, as the data loader gives them.

        Returns:
            (B, C', \*grid) of the teacher and (B, C, \*grid) of the student, float32, on the cells
            that both cover.

        Raises:
            CibaError: A frozen model cannot be loaded, or a feature is not finite.
        """
        self.load_frozen_models()
        cache, samples, device = self._cache, data.get('data_samples', ()), self.steps.device
        if cache is not None:
            pair = cache.get(samples, device)
            if pair is not None:
                return pair
        student_feature = self.student.feature(data, device)
        teacher_feature, window = self.teacher.target(data, student_feature, self.student.tap)
        student_feature = crop(student_feature, window)
        if cache is not None:
            # Only finite features may be stored for later runs.
            check_now()
            # Rounded as they will be read back, so that a full cache changes no step.
            return cache.put(samples, teacher_feature, student_feature)
        return teacher_feature, student_feature


@OPTIM_WRAPPERS.register_module()
class BottleneckOptimWrapper(OptimWrapper):
    """Clip the gradient of each parameter group separately.

    The optimizers in use (AdamW, SGD) update every parameter from its own gradient and history, so
    with one group per bottleneck each one takes the step it would take alone.
    """

    def _clip_grad(self) -> None:
        norms = {}
        for group in self.optimizer.param_groups:
            params = [p for p in group['params'] if p.requires_grad and p.grad is not None]
            norm = self.clip_func(params, **self.clip_grad_kwargs) if params else None
            if norm is not None:
                norms[f'train/{self.grad_name}_{group["bottleneck"]}'] = norm
        if norms:
            # Read together, as the CPU waits for the device to read a number.
            for name, value in zip(norms, torch.stack(list(norms.values())).tolist()):
                self.message_hub.update_scalar(name, value)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class BottleneckOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Build the optimizer of a :class:`BottleneckTraining`, one parameter group per bottleneck.

    The arguments are mmengine's: ``optim_wrapper_cfg``, the config of a
    :class:`BottleneckOptimWrapper` and, within, of the optimizer; ``paramwise_cfg`` is not
    supported and must be None.

    Raises:
        ConfigError: The model is not a :class:`BottleneckTraining`.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper of a model, wrapped for distributed training or not."""
        model = getattr(model, 'module', model)
        if not isinstance(model, BottleneckTraining):
            raise ConfigError(
                'BottleneckOptimWrapperConstructor is for BottleneckTraining, not for '
                f'{type(model).__name__}; remove it from optim_wrapper.'
            )
        groups = [
            {'params': list(bottleneck.parameters()), 'bottleneck': name}
            for name, bottleneck in model.named_bottlenecks()
        ]
        optimizer = OPTIMIZERS.build(dict(self.optimizer_cfg, params=groups))
        wrapper = dict(self.optim_wrapper_cfg)
        wrapper.setdefault('type', 'ciba_bev.BottleneckOptimWrapper')
        return OPTIM_WRAPPERS.build(wrapper, default_args=dict(optimizer=optimizer))


def load_bottleneck(
    checkpoint: str, size: int, teacher: FrozenModel, config: str
) -> Bottleneck | CenteredBottleneck:
    """Load one bottleneck of an Algorithm 1 run, checked against the teacher it will encode.

    Args:
        checkpoint: A checkpoint of :class:`BottleneckTraining`.
        size: Which of its bottlenecks, by the number of channels H.
        teacher: The loaded teacher.
        config: The config that trains bottlenecks, for the message if the file is missing.

    Returns:
        The bottleneck, in evaluation mode and without gradients.

    Raises:
        ConfigError: The file is missing, holds no bottlenecks or not this size, or they belong to
             another teacher or another tap.
    """
    if '://' not in checkpoint and not Path(checkpoint).is_file():
        raise ConfigError(
            f'distillation needs the bottleneck {checkpoint}, and there is no such file. Make it '
            f'with\n{training_command(config)}'
        )
    content = CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
    metadata = content.get(CHECKPOINT_KEY, {})
    if metadata.get('kind') != 'bottlenecks':
        raise ConfigError(
            f'{checkpoint} is no checkpoint of bottlenecks (Algorithm 1). Make one with\n'
            f'{training_command(config)}'
        )
    if size not in metadata['sizes']:
        raise ConfigError(
            f'{checkpoint} has bottlenecks of sizes {metadata["sizes"]}, not {size}. Take one of '
            f'these, or add {size} to bottleneck_sizes of {config} and train it again.'
        )
    _require_same_teacher(metadata['teacher'], teacher, checkpoint)
    bottleneck: Bottleneck = MODELS.build(dict(metadata['bottleneck'], bottleneck_size=size))
    prefix = f'bottlenecks.h{size}.'
    bottleneck.load_state_dict(
        {
            name[len(prefix) :]: value
            for name, value in content['state_dict'].items()
            if name.startswith(prefix)
        }
    )
    bottleneck.eval().requires_grad_(False)
    if metadata.get('subtract_cell_means'):
        return CenteredBottleneck(bottleneck, content['state_dict']['cell_means.teacher'])
    return bottleneck


def _require_same_teacher(stored: dict[str, Any], teacher: FrozenModel, checkpoint: str) -> None:
    if stored['fingerprint'] != teacher.fingerprint:
        raise ConfigError(
            f'the bottlenecks in {checkpoint} were trained on the teacher '
            f'{stored["checkpoint"]} ({stored["config"]}) as it was then; '
            f'{teacher.checkpoint} holds other weights. Train the bottlenecks again on this '
            'teacher, or give the teacher they belong to.'
        )
    now = teacher.tap.describe()
    if stored['tap'] != now:
        changed = [
            f'{key} {stored["tap"][key]!r} there, {now[key]!r} here'
            for key in now
            if stored['tap'].get(key) != now[key]
        ]
        raise ConfigError(
            f"the bottlenecks in {checkpoint} encode another tap of the teacher's: "
            f'{"; ".join(changed)}. Use the same tap in both configs.'
        )


def _plain(value: Any) -> Any:
    """Return a config value as plain containers: checkpoints must not hold config classes."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
