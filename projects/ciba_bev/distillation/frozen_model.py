"""A trained model that is only looked at: the teacher, and Algorithm 1's undistilled student."""

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
from ..registry import MODELS
from .hooks import RECORD_KEY
from .taps import FeatureTap

PRECISIONS = {'float32': None, 'float16': torch.float16, 'bfloat16': torch.bfloat16}


class FrozenModel:
    """A model that is run up to a tap, without autograd, and never trained or saved.

    It is no ``nn.Module`` on purpose: a model that holds one does not find it among its own
    submodules, so it is not in the optimizer, not in checkpoints, not wrapped for distributed
    training, and ``train()`` does not reach it.

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
                f'bash tools/dist_train.sh {self.config} 8\n'
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

    def preprocess(self, data: dict) -> dict:
        """Select this model's inputs from a collated batch and run its data preprocessor.

        Args:
            data: ``inputs`` and ``data_samples``, as the data loader gives them. Left unchanged.

        Returns:
            The model's own ``inputs`` and ``data_samples``, on its device.
        """
        self.ensure_loaded()
        chosen = select_inputs(data, self.inputs, self.role)
        samples = chosen.get('data_samples')
        if samples is not None:
            # Preprocessing notes image sizes on the samples; the other model notes its own.
            chosen['data_samples'] = [
                sample.clone() if hasattr(sample, 'clone') else sample for sample in samples
            ]
        return self.model.data_preprocessor(chosen, False)

    def to(self, device: torch.device) -> None:
        """Move the model, if it is not there yet."""
        if next(self.model.parameters()).device != device:
            self.model.to(device)

    @torch.no_grad()
    def feature(self, data: dict) -> Tensor:
        """Run the model as far as the tap.

        Args:
            data: A batch from :meth:`preprocess`.

        Returns:
            The tapped feature, (B, C, \\*grid), float32, without gradient.

        Raises:
            CibaError: The feature is not finite; the message names the samples.
        """
        self.ensure_loaded()
        device = next(self.model.parameters()).device
        dtype = self._autocast_dtype(device)
        reduced = torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
        with reduced, self.tap.attach(self.model, stop=True) as reader:
            self.model(**data, mode='predict')
        feature = reader.feature.float()
        require_finite(feature, f"the {self.role}'s feature at {self.tap.module}", data)
        return feature

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


def require_finite(value: Tensor, what: str, data: dict | None) -> None:
    """Refuse a feature or a loss that holds NaN or infinity.

    Args:
        value: Any tensor.
        what: Its name, for the message.
        data: The batch it comes from.

    Raises:
        CibaError: It is not finite; the message names the samples.
    """
    # A sum is one number to look at, and not finite as soon as one summand is not.
    if bool(value.detach().sum(dtype=torch.float64).isfinite()):
        return
    data = data or {}
    # Detectors get data samples with a token each, classifiers a list of names.
    tokens = [_token(sample) for sample in data.get('data_samples') or []] or data.get('names', [])
    raise CibaError(
        f'{what} holds NaN or infinity, for samples {", ".join(tokens) or "unknown"}. The weights '
        'are not updated with it. Look at these samples and at the training that made the model; '
        "in reduced precision, try precision='float32'."
    )


def _token(sample: Any) -> str:
    metainfo = getattr(sample, 'metainfo', {})
    return str(metainfo.get('token') or metainfo.get('sample_idx', '?'))


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
