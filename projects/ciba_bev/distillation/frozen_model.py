"""The holder of a frozen model: the teacher, or Algorithm 1's undistilled student."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Sequence

import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from torch import Tensor

from ..checkpoints.matching import load_weights, require_complete, weights_of
from ..errors import CibaError
from ..finiteness import require_finite
from ..registry import MODELS
from ..shell import training_command
from .bottlenecks import Bottleneck
from .hooks import RECORD_KEY
from .taps import FeatureTap, Window, align_to_student

PRECISIONS = {'float32': None, 'float16': torch.float16, 'bfloat16': torch.bfloat16}


class FrozenModel:
    """A model that is run up to a tap, without autograd, and never trained or saved.

    It is deliberately not an ``nn.Module``: the model that holds it does not list it among its
    submodules, so it stays out of the optimizer, checkpoints, distributed training and
    ``train()``.

    Its weights are read at the latest when it is first used, in training, validation and testing
    alike: there is no way to a feature of random weights.

    Args:
        role: What it is to its holder, for messages: ``'teacher'`` or ``'student'``.
        config: Config file whose ``model`` it is, or that config itself.
        checkpoint: Its trained weights, a file or an address.
        tap: Arguments of :class:`FeatureTap`.
        inputs: Which of the batch's inputs it gets, by key (``['points']``); None for all.
        precision: ``'float32'``, ``'float16'``, ``'bfloat16'``, or ``'auto'``: bfloat16 on GPUs
            that have it, float16 on others, float32 on the CPU.

    Raises:
        CibaError: The config or the precision does not exist.
    """

    def __init__(
        self,
        role: str,
        config: str | dict,
        checkpoint: str,
        tap: dict,
        inputs: Sequence[str] | None = None,
        precision: str = 'auto',
    ) -> None:
        if precision not in (*PRECISIONS, 'auto'):
            raise CibaError(
                f'{role}: precision is {precision!r}; it must be auto or one of {list(PRECISIONS)}.'
            )
        if isinstance(config, str) and not Path(config).is_file():
            raise CibaError(
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
        self.encoder: Bottleneck | None = None
        cfg = Config.fromfile(config) if isinstance(config, str) else Config(dict(model=config))
        with MODELS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
            self.model = registry.build(cfg.model)
        self.model.eval().requires_grad_(False)
        # Fails here, before any data are read, if there is no such place.
        self.tap.attach(self.model)

    def load(self, allow_distilled: bool = False) -> None:
        """Read the trained weights.

        Args:
            allow_distilled: Whether they may be those of a distilled student, which is something
                to look at but nothing to distil from.

        Raises:
            CibaError: They are missing, another model's, or a distilled student's.
        """
        if '://' not in self.checkpoint and not Path(self.checkpoint).is_file():
            raise CibaError(
                f'the {self.role} needs {self.checkpoint}, and there is no such file. '
                'Make it with\n'
                f'{training_command(self.config)}\n'
                'or set the path to trained weights that you have.'
            )
        checkpoint = CheckpointLoader.load_checkpoint(self.checkpoint, 'cpu')
        record = checkpoint.get(RECORD_KEY, {})
        if record.get('kind') == 'distilled student' and not allow_distilled:
            raise CibaError(
                f'the {self.role} must be trained without distillation, but {self.checkpoint} is '
                f'a student distilled with {record.get("method")}. Give the checkpoint of a '
                f'training of {self.config}.'
            )
        comparison = load_weights(self.model, weights_of(checkpoint))
        require_complete(comparison, self.checkpoint, self.config)
        self.fingerprint = fingerprint_of(self.model.state_dict())

    def ensure_loaded(self) -> None:
        """Read the trained weights, unless that was done already.

        Raises:
            CibaError: As :meth:`load`.
        """
        if not self.fingerprint:
            self.load()

    def describe(self) -> dict[str, Any]:
        """Whose features these are, as plain values, for records."""
        return {
            'config': self.config,
            'checkpoint': self.checkpoint,
            'fingerprint': self.fingerprint,
            'tap': self.tap.describe(),
        }

    def to(self, device: torch.device) -> None:
        """Move the model, unless it is there already."""
        if next(self.model.parameters()).device != device:
            self.model.to(device)

    @torch.no_grad()
    def feature(self, data: dict, device: torch.device | str = 'cpu') -> Tensor:
        """Run the model as far as the tap.

        Args:
            data: ``inputs`` and ``data_samples``, as the data loader gives them. Left unchanged.
            device: Where the model runs; it moves there first.

        Returns:
            The tapped feature, (B, C, \\*grid), float32, without gradient.

        Raises:
            CibaError: The weights cannot be loaded, the batch lacks an input, or the feature is
                not finite; the message names the samples.
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
        self, data: dict, student_feature: Tensor, student_tap: FeatureTap, sample: bool = False
    ) -> tuple[Tensor, Window]:
        """Compute what a student's feature is to imitate.

        Args:
            data: A collated batch.
            student_feature: (B, C, \\*grid); says where the target is needed.
            student_tap: Where that was read.
            sample: Take a sample of the code's distribution instead of its mean.

        Returns:
            The code h' (B, H, \\*covered), or the whole feature if there is no encoder, float32,
            on the cells of the student's grid that the teacher covers; and these cells.

        Raises:
            CibaError: As :meth:`feature`, or the two grids cannot be aligned.
        """
        device = student_feature.device
        feature = self.feature(data, device)
        feature, window = align_to_student(feature, student_feature, self.tap, student_tap)
        if self.encoder is not None:
            feature = self.encoder.to(device).encode(feature, sample=sample).float()
        return feature, window

    def _select(self, data: dict) -> dict:
        """Select this model's inputs from a batch, with data samples of its own to write on."""
        selected = select_inputs(data, self.inputs, self.role)
        samples = selected.get('data_samples')
        if samples is not None:
            # Preprocessing notes image sizes on the samples; the other model notes its own.
            selected['data_samples'] = [
                sample.clone() if hasattr(sample, 'clone') else sample for sample in samples
            ]
        return selected

    def _autocast_dtype(self, device: torch.device) -> torch.dtype | None:
        if self.precision != 'auto':
            return PRECISIONS[self.precision]
        if device.type != 'cuda':
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def select_inputs(data: dict, names: Sequence[str] | None, role: str) -> dict:
    """Keep some of a collated batch's inputs.

    Args:
        data: ``inputs`` and ``data_samples``.
        names: Keys of ``inputs`` to keep; None for all of them.
        role: Whose inputs they are, for messages.

    Returns:
        A new dict; what it holds is shared with ``data``.

    Raises:
        CibaError: An input is not in the batch.
    """
    if names is None:
        return dict(data)
    inputs = data['inputs']
    for name in names:
        if not isinstance(inputs, dict) or name not in inputs:
            found = ', '.join(inputs) if isinstance(inputs, dict) else 'a single tensor'
            raise CibaError(
                f'the {role} reads {name!r} but the batch has {found}. Load it in the pipeline '
                '(see configs/_base_/datasets/nuscenes_lidar_camera.py) and pack it.'
            )
    return dict(data, inputs={name: inputs[name] for name in names})


def fingerprint_of(weights: dict[str, Tensor]) -> str:
    """A short name for a set of weights: the same for the same values, whatever file they are in.

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
