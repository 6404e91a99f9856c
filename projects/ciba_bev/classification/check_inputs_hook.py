"""Compare the shapes of data sets and networks before the first step."""

from __future__ import annotations

from typing import Any, Iterator

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from ..distillation.frozen_model import FrozenModel
from ..errors import ConfigError
from ..registry import HOOKS
from .classifier import Classifier


@HOOKS.register_module()
class CheckInputsHook(Hook):
    """Stop a run before its first step if its data do not have the shapes its networks expect.

    Before training, the test data are compared as well, so that a mistake there is not found only
    after the last epoch. Data sets describe themselves with ``shapes``, ``classes`` and
    ``source``, networks with ``input_shapes`` and ``classes``; others are not checked.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Compare training, validation and test data.

        Args:
            runner: The runner.

        Raises:
            ConfigError: A size differs; the message names the file, both sizes and the remedy.
        """
        for loop in (runner.train_loop, runner.val_loop, runner.test_loop):
            if loop is not None:
                check_inputs(loop.dataloader.dataset, runner.model)

    def before_test(self, runner: Runner) -> None:
        """Compare the test data.

        Args:
            runner: The runner.

        Raises:
            ConfigError: See :meth:`before_train`.
        """
        check_inputs(runner.test_loop.dataloader.dataset, runner.model)


def check_inputs(dataset: Any, model: nn.Module) -> None:
    """Compare a data set with all classifiers in a model, including frozen ones.

    Args:
        dataset: The data set; it is not checked if it has no ``shapes``.
        model: The model, wrapped for distributed training or not.

    Raises:
        ConfigError: Inputs have another shape, or there is another number of classes.
    """
    shapes = getattr(dataset, 'shapes', None)
    if shapes is None:
        return
    for field, classifier, is_trained in _classifiers(model):
        network = classifier.network
        expected_shapes = getattr(network, 'input_shapes', {})
        for name in classifier.input_names:
            if name in shapes and name in expected_shapes:
                _compare(dataset.source(name), name, shapes[name], expected_shapes[name], field)
        classes = getattr(network, 'classes', dataset.classes)
        # The logits of a frozen network are not compared with labels.
        if is_trained and dataset.classes != classes:
            raise ConfigError(
                f'{dataset.source("labels")}: there are {dataset.classes} classes, but the network '
                f'of {field} has {classes}. Set its number of classes (classes, genres) to '
                f'{dataset.classes} in the config, or use data with {classes}.'
            )


def _compare(
    source: str, name: str, found: tuple[int, ...], expected: tuple[int | None, ...], field: str
) -> None:
    if len(found) == len(expected) and all(
        size is None or size == other for size, other in zip(expected, found)
    ):
        return
    shown = ' x '.join('any' if size is None else str(size) for size in expected)
    raise ConfigError(
        f'{source}: a sample has {" x ".join(map(str, found))} numbers, but the {name} network of '
        f'{field} takes {shown}. Use data of that size, or set the size of the network '
        f'(in_channels, {name}_channels) in the config and train it again.'
    )


def _classifiers(model: nn.Module) -> Iterator[tuple[str, Classifier, bool]]:
    """Yield the config field of each classifier, the classifier, and whether it is trained."""
    model = model.module if is_model_wrapper(model) else model
    for name, module in model.named_modules():
        if isinstance(module, Classifier):
            yield f'model.{name}'.rstrip('.'), module, True
    for role in ('teacher', 'student'):
        frozen = getattr(model, role, None)
        if isinstance(frozen, FrozenModel) and isinstance(frozen.model, Classifier):
            yield f'the {role} ({frozen.config})', frozen.model, False
