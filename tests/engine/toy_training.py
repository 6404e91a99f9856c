"""A regression small enough to train in a blink, as components that a config can name."""

from __future__ import annotations

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from ciba_bev.registry import DATASETS, METRICS, MODELS

CONFIG = """
custom_imports = dict(imports=['ciba_bev', 'toy_training'], allow_failed_imports=False)
default_scope = 'ciba_bev'
model = dict(type='ToyModel', width={width})
train_dataloader = dict(
    batch_size={batch_size}, num_workers=0, dataset=dict(type='ToyDataset'),
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True))
test_dataloader = dict(
    batch_size=1, num_workers=0, dataset=dict(type='ToyDataset'),
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_evaluator = dict(type='ToyMetric')
test_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs={epochs})
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
default_hooks = dict(logger=dict(type='LoggerHook', interval=1),
                     checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3))
custom_hooks = [dict(type='LossAveragingHook')]
randomness = dict(seed=3)
env_cfg = dict(mp_cfg=dict(mp_start_method='fork'))
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')], name='toy')
"""


def write_config(path, width: int = 4, batch_size: int = 2, epochs: int = 2):
    """Write the toy's config to a file and return the file."""
    path.write_text(CONFIG.format(width=width, batch_size=batch_size, epochs=epochs))
    return path


@MODELS.register_module()
class ToyModel(BaseModel):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(3, width)
        self.output = nn.Linear(width, 1)

    def forward(self, inputs: torch.Tensor, target: torch.Tensor, mode: str):
        output = self.output(torch.tanh(self.hidden(inputs)))
        if mode == 'loss':
            return {'loss': (output - target).square().mean()}
        return [{'error': float(error)} for error in (output - target).abs()]


@DATASETS.register_module()
class ToyDataset(Dataset):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict:
        inputs = torch.sin(torch.arange(3.0) + 5 * index)
        return {'inputs': inputs, 'target': inputs.sum().reshape(1)}


@METRICS.register_module()
class ToyMetric(BaseMetric):
    default_prefix = 'toy'

    def process(self, data_batch, data_samples) -> None:
        self.results.extend(data_samples)

    def compute_metrics(self, results) -> dict:
        return {'error': sum(r['error'] for r in results) / len(results)}
