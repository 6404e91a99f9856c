"""A frozen model: the teacher, or the undistilled student of Algorithm 1."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Sequence

import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from torch import Tensor

from ..checkpoints.matching import get_state_dict, load_weights, require_complete
from ..errors import ConfigError
from ..finiteness import require_finite
from ..precision import has_bfloat16
from ..registry import MODELS
from ..shell import training_command
from .bottlenecks import Bottleneck
from .cell_means import CenteredBottleneck
from .hooks import CHECKPOINT_KEY
from .taps import FeatureTap, Window, align_to_student

# Config of the preprocessor of models that hold others, which have their own: it copies the batch
# to the device, and from pinned memory does not wait for that.
MOVE_TO_DEVICE = dict(type='BaseDataPreprocessor', non_blocking=True)
PRECISIONS = {'float32': None, 'float16': torch.float16, 'bfloat16': torch.bfloat16}


class FrozenModel:
    """A model that runs up to a tap, without autograd, and is never trained or saved.

    It is deliberately not an ``nn.Module``: it is no submodule of the model that holds it, so it
    stays out of the optimizer, checkpoints, distributed training and ``train()``.

    Its weights are loaded at the latest on first use, in training, validation and testing alike, so
    it never returns a feature of random weights.

    Args:
        role: ``'teacher'`` or ``'student'``, for messages.
        config: Config file that defines ``model``, or the config of the model itself.
        checkpoint: Its trained weights, a file or a URL.
        tap: Arguments of :class:`FeatureTap`.
        inputs: Keys of the batch's inputs that it gets (``['points']``); None for all.
        precision: ``'float32'``, ``'float16'``, ``'bfloat16'``, or ``'auto'``: bfloat16 on GPUs
            that have it, float16 on others, float32 on the CPU.

    Raises:
        ConfigError: The config, the precision or the tap does not exist.
    """

    def __init__(
        self,
        role: str,
        config: str | dict[str, Any],
        checkpoint: str,
        tap: dict[str, Any],
        inputs: Sequence[str] | None = None,
        precision: str = 'auto',
    ) -> None:
        if precision not in (*PRECISIONS, 'auto'):
            raise ConfigError(
                f'{role}: precision is {precision!r}; it must be auto or one of {list(PRECISIONS)}.'
            )
        if isinstance(config, str) and not Path(config).is_file():
            raise ConfigError(
                f'{role}: there is no config {config}. The path is relative to the folder the '
                'command is run in.'
            )
        self.role = role
        self.config = config if isinstance(config, str) else 'the config given inline'
        self.checkpoint = checkpoint
        self.tap = FeatureTap(**tap)
        self.inputs = inputs
        self.precision = precision
        self.fingerprint = ''
        self.encoder: Bottleneck | CenteredBottleneck | None = None
        cfg = Config.fromfile(config) if isinstance(config, str) else Config(dict(model=config))
        with MODELS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
            self.model = registry.build(cfg.model)
        self.model.eval().requires_grad_(False)
        # Fails here, before any data are read, if there is no such submodule.
        self.tap.attach(self.model)

    def load(self, allow_distilled: bool = False) -> None:
        """Load the trained weights.

        Args:
            allow_distilled: Accept the weights of a distilled student, for analysis; nothing may be
                distilled from them.

        Raises:
            CibaError: They are missing, belong to another model, or to a distilled student.
        """
        if '://' not in self.checkpoint and not Path(self.checkpoint).is_file():
            raise ConfigError(
                f'the {self.role} needs {self.checkpoint}, and there is no such file. '
                'Make it with\n'
                f'{training_command(self.config)}\n'
                'or set the path to trained weights that you have.'
            )
        checkpoint = CheckpointLoader.load_checkpoint(self.checkpoint, 'cpu')
        metadata = checkpoint.get(CHECKPOINT_KEY, {})
        if metadata.get('kind') == 'distilled student' and not allow_distilled:
            raise ConfigError(
                f'the {self.role} must be trained without distillation, but {self.checkpoint} is '
                f'a student distilled with {metadata.get("method")}. Give the checkpoint of a '
                f'training of {self.config}.'
            )
        comparison = load_weights(self.model, get_state_dict(checkpoint))
        require_complete(comparison, self.checkpoint, self.config)
        self.fingerprint = fingerprint_of(self.model.state_dict())

    def ensure_loaded(self) -> None:
        """Load the trained weights, unless they are loaded already.

        Raises:
            CibaError: As :meth:`load`.
        """
        if not self.fingerprint:
            self.load()

    def describe(self) -> dict[str, Any]:
        """Return config, checkpoint, fingerprint and tap as plain values, for checkpoints."""
        return {
            'config': self.config,
            'checkpoint': self.checkpoint,
            'fingerprint': self.fingerprint,
            'tap': self.tap.describe(),
        }

    def to(self, device: torch.device) -> None:
        """Move the model to a device, unless it is there already."""
        if device.type == 'cuda' and device.index is None:
            # Parameters have an index, and a device without one differs from theirs.
            device = torch.device('cuda', torch.cuda.current_device())
        if next(self.model.parameters()).device != device:
            self.model.to(device)

    @torch.no_grad()
    def feature(self, data: dict[str, Any], device: torch.device | str = 'cpu') -> Tensor:
        r"""Run the model as far as the tap.

        Args:
            data: ``inputs`` and ``data_samples``, as the data loader gives them. Left unchanged.
            device: Where the model runs; it moves there first.

        Returns:
            The tapped feature, (B, C, \*grid), float32, without gradient.

        Raises:
            CibaError: The weights cannot be loaded, the batch lacks an input, or the feature is not
                finite; the message names the samples.
        """
        self.ensure_loaded()
        device = torch.device(device)
        self.to(device)
        batch = self.model.data_preprocessor(self._select(data), False)
        dtype = self._autocast_dtype(device)
        reduced = torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
        with reduced, self.tap.attach(self.model, stop=True) as reader:
            self.model(**batch, mode='predict')
        feature = reader.feature.float()
        require_finite(feature, f"the {self.role}'s feature at {self.tap.module}", data)
        return feature

    @torch.no_grad()
    def target(
        self,
        data: dict[str, Any],
        student_feature: Tensor,
        student_tap: FeatureTap,
        sample: bool = False,
    ) -> tuple[Tensor, Window]:
        r"""Compute the target of a student's feature (Algorithm 2: h').

        Args:
            data: A collated batch.
            student_feature: (B, C, \*grid); its grid and device are those of the target.
            student_tap: Where ``student_feature`` was read.
            sample: Take a sample of the code's distribution instead of its mean.

        Returns:
            The code h' (B, H, \*covered), or the whole feature if there is no encoder, float32,
            on the cells of the student's grid that the teacher covers; and the window of these
            cells.

        Raises:
            CibaError: As :meth:`feature`, or the two grids cannot be aligned.
        """
        device = student_feature.device
        feature = self.feature(data, device)
        feature, window = align_to_student(feature, student_feature, self.tap, student_tap)
        if self.encoder is not None:
            feature = self.encoder.to(device).encode(feature, sample=sample).float()
        return feature, window

    def _select(self, data: dict[str, Any]) -> dict[str, Any]:
        """Select this model's inputs from a batch, with copies of the data samples."""
        selected = select_inputs(data, self.inputs, self.role)
        samples = selected.get('data_samples')
        if samples is not None:
            # Preprocessing writes image sizes into the samples, different ones for each model.
            selected['data_samples'] = [
                sample.clone() if hasattr(sample, 'clone') else sample for sample in samples
            ]
        return selected

    def _autocast_dtype(self, device: torch.device) -> torch.dtype | None:
        if self.precision != 'auto':
            return PRECISIONS[self.precision]
        if device.type != 'cuda':
            return None
        return torch.bfloat16 if has_bfloat16(device) else torch.float16


def select_inputs(data: dict[str, Any], names: Sequence[str] | None, role: str) -> dict[str, Any]:
    """Select some of a collated batch's inputs.

    Args:
        data: ``inputs`` and ``data_samples``.
        names: Keys of ``inputs`` to keep; None for all of them.
        role: ``'teacher'`` or ``'student'``, for messages.

    Returns:
        A new dict; its values are shared with ``data``.

    Raises:
        ConfigError: An input is not in the batch.
    """
    if names is None:
        return dict(data)
    inputs = data['inputs']
    for name in names:
        if not isinstance(inputs, dict) or name not in inputs:
            found = ', '.join(inputs) if isinstance(inputs, dict) else 'a single tensor'
            raise ConfigError(
                f'the {role} reads {name!r} but the batch has {found}. Load it in the pipeline '
                '(see configs/_base_/datasets/nuscenes_lidar_camera.py) and pack it.'
            )
    return dict(data, inputs={name: inputs[name] for name in names})


def fingerprint_of(weights: dict[str, Tensor]) -> str:
    """Return a fingerprint of weights, which depends on their values but not on their file.

    Args:
        weights: A state dict.

    Returns:
        32 hexadecimal digits of the SHA-256 of names, types and values.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]
