"""The classifier of all classification experiments: one network, one classification loss.

A batch is a dict of tensors, not a list of samples: ``inputs``, name of each modality to (B, ...);
``labels``, (B,) class indices or (B, K) zeros and ones; ``names`` of the samples, for messages.
With small networks, collating samples in Python would take most of the time.
"""

from __future__ import annotations

from typing import Any, Sequence

from mmengine.model import BaseModel
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError
from ..registry import MODELS


@MODELS.register_module()
class Classifier(BaseModel):
    """A network trained with cross-entropy, or binary cross-entropy for several labels per sample.

    Args:
        network: Config of a module that maps the inputs, passed by the name of their modality
            (``image=(B, ...)``), to logits (B, K).
        inputs: Names of the modalities that the network reads; others in the batch are ignored.
        multi_label: Whether a sample may have several labels.
        data_preprocessor: Config of mmengine's preprocessor; None moves the batch to the device
            and does nothing else.
        init_cfg: mmengine's initialisation config.
    """

    def __init__(
        self,
        network: dict,
        inputs: Sequence[str],
        multi_label: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.network = MODELS.build(network)
        self.input_names = tuple(inputs)
        self.multi_label = multi_label

    def forward(
        self,
        inputs: dict[str, Tensor],
        labels: Tensor | None = None,
        names: Sequence[str] | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Classify a batch.

        Args:
            inputs: Name of each modality to (B, ...).
            labels: (B,) int64, or (B, K) float32 of zeros and ones with ``multi_label``.
            names: Names of the samples; not used.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.

        Returns:
            For ``'loss'``, ``loss_classification``; for ``'predict'``, a list with one dict for the
            batch: ``logits`` (B, K) and the ``labels``; otherwise the logits.

        Raises:
            ConfigError: The batch lacks a modality.
        """
        missing = [name for name in self.input_names if name not in inputs]
        if missing:
            raise ConfigError(
                f'the classifier reads {", ".join(self.input_names)}, but the batch has '
                f'{", ".join(inputs) or "nothing"}: let the data set load {", ".join(missing)}.'
            )
        logits = self.network(**{name: inputs[name] for name in self.input_names})
        if mode == 'loss':
            return {'loss_classification': self._loss(logits, labels)}
        if mode == 'predict':
            return [{'logits': logits, 'labels': labels}]
        return logits

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.multi_label:
            return F.binary_cross_entropy_with_logits(logits.float(), labels.float())
        return F.cross_entropy(logits.float(), labels)
