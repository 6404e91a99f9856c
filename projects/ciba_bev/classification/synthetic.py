"""The synthetic experiments: two Gaussian modalities, linear networks, all runs in one batch.

Teacher data X' = (G; S') and student data X = (G; S) share the first D_g of their D dimensions
(Eq. 4). Networks are a linear feature extractor and a linear classifier (Appendix D.1). The runs
for every repeat, every D_g and both ways of distilling (alone, and with the task loss) are the M
members of one batched computation. They do not influence each other: losses are summed over
members, and plain gradient descent updates every weight independently.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple, Sequence

import torch
from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..analysis import FeatureCovariance, limiting_distillation_loss
from ..errors import CibaError, ConfigError
from ..files import write_file
from ..registry import DATASETS, METRICS, MODELS
from ..shell import shell_command

TASKS = ('distillation alone', 'distillation and task')


class Modalities(NamedTuple):
    """Paired data of two modalities.

    Attributes:
        teacher: X', (D, N), its first D_g rows shared.
        student: X, (D, N).
        labels: (N,) zeros and ones.
    """

    teacher: Tensor
    student: Tensor
    labels: Tensor


def make_modalities(
    general_dims: int,
    dims: int = 50,
    samples: int = 1000,
    seed: int = 0,
    orthogonal: bool = True,
    draw: int = 0,
) -> Modalities:
    """Draw two modalities that share some dimensions, and labels that depend on all of them.

    As in Xue et al. 2022, the shared and both specific parts are unit Gaussians, and the class is
    the side of a random hyperplane through all of them. Either modality determines it in part.

    Args:
        general_dims: D_g, number of shared dimensions; it controls the modality gap.
        dims: D, dimensions of each modality.
        samples: N, number of samples.
        seed: Seed of the hyperplane and of the data.
        orthogonal: Orthogonalise the rows by Gram-Schmidt, which separates the parts completely
            (Sec. 3.4); otherwise they are only nearly orthogonal (Appendix E.6). Rows have mean
            square one.
        draw: Number of the draw from the same distribution, such as 0 to train and 1 to test.

    Returns:
        The data, float32.

    Raises:
        ConfigError: D_g is not from 0 to D, or there are more rows to orthogonalise than samples.
    """
    if not 0 <= general_dims <= dims:
        raise ConfigError(f'general_dims is {general_dims}; it must be from 0 to dims = {dims}.')
    rows = 2 * dims - general_dims
    if orthogonal and rows > samples:
        raise ConfigError(
            f'{rows} rows cannot be orthogonal over {samples} samples: take at least {rows}.'
        )
    plane_generator = torch.Generator().manual_seed(seed)
    plane = torch.randn(rows, generator=plane_generator, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed + (draw + 1) * 1_000_003)
    parts = torch.randn(rows, samples, generator=generator, dtype=torch.float64)
    if orthogonal:
        parts = _gram_schmidt(parts)
    labels = (plane @ parts > 0).long()
    teacher = parts[:dims].float()
    # The shared rows, and those after the teacher's.
    student = torch.cat((parts[:general_dims], parts[dims:])).float()
    return Modalities(teacher, student, labels)


def _gram_schmidt(rows: Tensor) -> Tensor:
    """Return orthogonal rows of mean square one that successively span the same spaces."""
    basis, coordinates = torch.linalg.qr(rows.T)
    # The signs of QR are arbitrary; Gram-Schmidt preserves those of the rows.
    signs = torch.where(coordinates.diagonal() < 0, -1.0, 1.0)
    return (basis * signs).T * rows.size(1) ** 0.5


@DATASETS.register_module()
class SyntheticModalities(Dataset):
    """A data set of one item: the data of all members, several repeats for every D_g.

    Args:
        general_dims: Values of D_g.
        repeats: Repeats of each, with different seeds.
        dims: D, dimensions of each modality.
        samples: N, number of samples.
        orthogonal: See :func:`make_modalities`.
        draw: See :func:`make_modalities`.
    """

    def __init__(
        self,
        general_dims: Sequence[int] = (10, 20, 30, 40),
        repeats: int = 10,
        dims: int = 50,
        samples: int = 1000,
        orthogonal: bool = True,
        draw: int = 0,
    ) -> None:
        members = [
            make_modalities(shared, dims, samples, repeat, orthogonal, draw)
            for shared in general_dims
            for repeat in range(repeats)
        ]
        teacher, student, labels = (torch.stack(column) for column in zip(*members))
        self._item = {'inputs': {'teacher': teacher, 'student': student}, 'labels': labels}

    def __len__(self) -> int:
        return 1

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """Return the item: ``inputs`` ``teacher`` and ``student`` (M, D, N), ``labels`` (M, N)."""
        return self._item


class LinearNetworks(nn.Module):
    """Independent networks of two linear layers without a non-linearity, one for each member.

    Args:
        members: Shape of the batch of networks.
        dims: D, number of inputs.
        features: F, number of features.
    """

    def __init__(self, members: tuple[int, ...], dims: int, features: int) -> None:
        super().__init__()
        self.feature_extractor = nn.Parameter(torch.empty(*members, features, dims))
        self.classifier = nn.Parameter(torch.empty(*members, 1, features))
        self.bias = nn.Parameter(torch.zeros(*members, 1, 1))

    def init_weights(self, seed: int) -> None:
        """Initialise with Gaussian weights of variance one over the number of inputs.

        Args:
            seed: Seed of the weights.
        """
        generator = torch.Generator().manual_seed(seed)
        for weight in (self.feature_extractor, self.classifier):
            weight.data.normal_(0, weight.size(-1) ** -0.5, generator=generator)

    def forward(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features and logits.

        Args:
            data: (..., D, N).

        Returns:
            Features (..., F, N) and logits (..., N).
        """
        features = self.feature_extractor @ data
        return features, (self.classifier @ features + self.bias).squeeze(-2)


@MODELS.register_module()
class SyntheticTeachers(BaseModel):
    """The teachers of all members, trained with the task loss only.

    Args:
        members: M, the number of values of D_g times repeats.
        dims: D, dimensions of the teacher's data.
        features: F, number of features.
        seed: Seed of the initial weights.
    """

    def __init__(
        self, members: int = 40, dims: int = 50, features: int = 50, seed: int = 0
    ) -> None:
        super().__init__()
        self.networks = LinearNetworks((members,), dims, features)
        self.seed = seed

    def init_weights(self) -> None:
        """Draw the initial weights from the seed."""
        self.networks.init_weights(self.seed)

    def forward(
        self, inputs: dict[str, Tensor], labels: Tensor, mode: str = 'loss'
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Compute the task loss, or the accuracy of each member.

        Args:
            inputs: ``teacher``, (M, D, N).
            labels: (M, N).
            mode: ``'loss'`` or ``'predict'``.

        Returns:
            ``loss_task``, or a list with one dict with ``accuracy`` (M,).
        """
        _, logits = self.networks(inputs['teacher'])
        if mode == 'loss':
            return {'loss_task': _task_losses(logits, labels).sum()}
        return [{'accuracy': _accuracy(logits, labels)}]


@MODELS.register_module()
class SyntheticDistillation(BaseModel):
    """Students that learn the features of their members' teachers (Sec. 3.5, E.5 and E.6).

    Each member has two students: one with the distillation loss alone, whose classifier is trained
    on detached features, and one with distillation and task loss.

    Args:
        teacher_checkpoint: Checkpoint of :class:`SyntheticTeachers` on the same data.
        teacher_config: The config that trains it.
        general_dims: Values of D_g, as in the data set.
        repeats: Repeats of each, as in the data set.
        dims: D, dimensions of each modality.
        features: F, number of features.
        loss: ``'mse'`` (Eq. 1, divided by N) or ``'cross_entropy'`` between the softmax of the
            features.
        loss_weight: Weight of the distillation loss.
        seed: Seed of the initial weights.

    Raises:
        ConfigError: The loss is neither of the two.
    """

    def __init__(
        self,
        teacher_checkpoint: str,
        teacher_config: str,
        general_dims: Sequence[int] = (10, 20, 30, 40),
        repeats: int = 10,
        dims: int = 50,
        features: int = 50,
        loss: str = 'mse',
        loss_weight: float = 1.0,
        seed: int = 1,
    ) -> None:
        super().__init__()
        if loss not in ('mse', 'cross_entropy'):
            raise ConfigError(f"loss is {loss!r}; it must be 'mse' or 'cross_entropy'.")
        self.teacher_checkpoint = teacher_checkpoint
        self.teacher_config = teacher_config
        self.general_dims = tuple(general_dims)
        self.repeats = repeats
        self.loss = loss
        self.loss_weight = loss_weight
        self.seed = seed
        members = len(self.general_dims) * repeats
        self.teachers = LinearNetworks((members,), dims, features).requires_grad_(False)
        self.networks = LinearNetworks((len(TASKS), members), dims, features)

    def init_weights(self) -> None:
        """Draw the students' initial weights from the seed and load the teachers'.

        Raises:
            CibaError: The teachers' checkpoint does not exist or is of other sizes.
        """
        self.networks.init_weights(self.seed)
        if not Path(self.teacher_checkpoint).is_file():
            raise CibaError(
                f'there is no {self.teacher_checkpoint}. Train it with\n'
                f'{shell_command("python", "tools/train.py", self.teacher_config)}'
            )
        weights = CheckpointLoader.load_checkpoint(self.teacher_checkpoint, 'cpu')['state_dict']
        own = {name[len('networks.') :]: value for name, value in weights.items()}
        try:
            self.teachers.load_state_dict(own)
        except RuntimeError as error:
            raise CibaError(
                f'{self.teacher_checkpoint} has no teachers for this experiment; train '
                f'{self.teacher_config} with the same general_dims, repeats, dims and features '
                f'({error}).'
            ) from error

    def forward(
        self, inputs: dict[str, Tensor], labels: Tensor, mode: str = 'loss'
    ) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Compute the losses, or everything that the figures show.

        Args:
            inputs: ``teacher`` and ``student``, (M, D, N).
            labels: (M, N).
            mode: ``'loss'`` or ``'predict'``.

        Returns:
            ``loss_distillation``, ``loss_task``, and the parts ``general_<D_g>`` and
            ``specific_<D_g>`` of Eq. 1, averaged over repeats, for the students that learn from
            distillation alone; or a list with one dict, see :class:`SyntheticMetric`.
        """
        if mode != 'loss':
            return [self._measure(inputs, labels)]
        targets, _ = self.teachers(inputs['teacher'])
        features, _ = self.networks(inputs['student'])
        # The task loss does not reach the features of the first student.
        to_classify = torch.stack((features[0].detach(), features[1]))
        logits = (self.networks.classifier @ to_classify + self.networks.bias).squeeze(-2)
        return {
            'loss_distillation': self.loss_weight
            * self._distillation_losses(features, targets).sum(),
            'loss_task': _task_losses(logits, labels).sum(),
            **self._parts(inputs),
        }

    def _distillation_losses(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each student, (2, M), averaged over samples."""
        if self.loss == 'mse':
            return 0.5 * (features - targets).square().sum(-2).mean(-1)
        return -(targets.softmax(-2) * features.log_softmax(-2)).sum(-2).mean(-1)

    @torch.no_grad()
    def _parts(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return Eq. 1 for the general and for the specific rows, by D_g."""
        parts = {}
        teachers, students = self.teachers.feature_extractor, self.networks.feature_extractor[0]
        if self.loss == 'cross_entropy':
            # A softmax is invariant to what all features have in common.
            teachers, students = (
                weight - weight.mean(-2, keepdim=True) for weight in (teachers, students)
            )
        for index, shared in enumerate(self.general_dims):
            members = slice(index * self.repeats, (index + 1) * self.repeats)
            for name, rows in (
                ('general', slice(0, shared)),
                ('specific', slice(shared, None)),
            ):
                difference = (
                    teachers[members][..., rows] @ inputs['teacher'][members, rows]
                    - students[members][..., rows] @ inputs['student'][members, rows]
                )
                parts[f'{name}_{shared}'] = 0.5 * difference.square().sum((-2, -1)).mean()
        return parts

    @torch.no_grad()
    def _measure(self, inputs: dict[str, Tensor], labels: Tensor) -> dict[str, Any]:
        targets, teacher_logits = self.teachers(inputs['teacher'])
        features, logits = self.networks(inputs['student'])
        limits = [
            limiting_distillation_loss(weight, data, self.general_dims[member // self.repeats])
            for member, (weight, data) in enumerate(
                zip(self.teachers.feature_extractor, inputs['teacher'])
            )
        ]
        return {
            'general_dims': self.general_dims,
            'repeats': self.repeats,
            'weight_singular_values': torch.linalg.svdvals(self.networks.feature_extractor),
            'feature_singular_values': torch.stack(
                [torch.stack([_spectrum(member) for member in task]) for task in features]
            ),
            'accuracy': _accuracy(logits, labels),
            'teacher_accuracy': _accuracy(teacher_logits, labels),
            'distillation_loss': 0.5 * (features[0] - targets).square().sum((-2, -1)),
            'limiting_loss': torch.stack(limits),
        }


@METRICS.register_module()
class SyntheticMetric(BaseMetric):
    """Write the data of the figures of the synthetic experiments, and report mean accuracies.

    The file contains, for M members ordered by D_g and then by repeat: ``general_dims``,
    ``repeats``, ``weight_singular_values`` (2, M, F) and ``feature_singular_values`` (2, M, F),
    for distillation alone and with the task; ``accuracy`` (2, M) and ``teacher_accuracy`` (M), in
    percent; ``distillation_loss`` (M) of Eq. 1 and its ``limiting_loss`` (M) of Eq. 6.

    Args:
        out_file: The JSON file; None to write no file.
        prefix: Prefix of the metrics' names.
    """

    default_prefix = 'synthetic'

    def __init__(self, out_file: str | None = None, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        self.out_file = out_file

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Collect the measurements of the model.

        Args:
            data_batch: Unused.
            data_samples: A list with one dict.
        """
        (measured,) = data_samples
        self.results.append(
            {
                name: value.tolist() if isinstance(value, Tensor) else value
                for name, value in measured.items()
            }
        )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Write the file and return mean accuracies.

        Args:
            results: A list with one dict.

        Returns:
            ``accuracy`` and, if measured, ``teacher_accuracy``, in percent.
        """
        (measured,) = results
        if self.out_file is not None and is_main_process():
            write_file(self.out_file, json.dumps(measured) + '\n')
        return {
            name: torch.tensor(measured[name]).mean().item()
            for name in ('accuracy', 'teacher_accuracy')
            if name in measured
        }


def _task_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the binary cross-entropy of each network, averaged over samples."""
    targets = labels.to(logits).expand_as(logits)
    return F.binary_cross_entropy_with_logits(logits, targets, reduction='none').mean(-1)


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return 100 * ((logits > 0) == (labels > 0)).double().mean(-1)


def _spectrum(features: Tensor) -> Tensor:
    covariance = FeatureCovariance()
    covariance.update(features.T)
    return torch.as_tensor(covariance.singular_values())
