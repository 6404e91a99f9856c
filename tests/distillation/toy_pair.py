"""A teacher and a student of another sensor, small enough to train in a blink.

Each sample has a 4-channel "lidar" map and a 3-channel "camera" map of 8 x 8 cells. The teacher's
neck gives (B, 6, 8, 8); the student's head is given tokens (B, 64, 10). Neither knows that it is
tapped.
"""

from __future__ import annotations

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import Dataset

from ciba_bev.registry import DATASETS, METRICS, MODELS

GRID = (8, 8)
TEACHER_CHANNELS = 6
STUDENT_CHANNELS = 10
TEACHER_TAP = dict(module='neck', index=0)
STUDENT_TAP = dict(module='head', source='input', layout='tokens', grid=GRID)

CONFIG = """
default_scope = 'ciba_bev'
custom_imports = dict(imports=['ciba_bev', 'toy_pair'],
                      allow_failed_imports=False)
model = {model}
train_dataloader = dict(
    batch_size={batch_size}, num_workers=0, dataset=dict(type='ToyPairs'),
    collate_fn=dict(type='pseudo_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True))
train_cfg = dict(by_epoch=True, max_epochs={epochs})
optim_wrapper = {optim_wrapper}
default_hooks = dict(logger=dict(type='LoggerHook', interval=1),
                     checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=9))
custom_hooks = [dict(type='LossAveragingHook'), dict(type='DistillationRecordHook')]
randomness = dict(seed=3)
env_cfg = dict(mp_cfg=dict(mp_start_method='fork'), dist_cfg=dict(backend='gloo'))
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')], name='toy')
"""
PLAIN_OPTIMIZER = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.01))
BOTTLENECK_OPTIMIZER = dict(
    type='ciba_bev.BottleneckOptimWrapper',
    constructor='ciba_bev.BottleneckOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=0.01),
    clip_grad=dict(max_norm=0.5),
)


def write_config(path, model: dict, epochs=2, batch_size=2, optim_wrapper=None):
    """Write a config that trains ``model`` on the toy's data and return the file."""
    path.write_text(
        CONFIG.format(
            model=model,
            epochs=epochs,
            batch_size=batch_size,
            optim_wrapper=optim_wrapper or PLAIN_OPTIMIZER,
        )
    )
    return path


@MODELS.register_module()
class ToyLidarTeacher(BaseModel):
    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.neck = ToyNeck()
        self.head_calls = 0

    def forward(self, inputs: dict, data_samples: list, mode: str):
        maps = self.neck(self.dropout(self.backbone(torch.stack(inputs['lidar']))))
        self.head_calls += 1
        return maps[0].mean(dim=(2, 3))


class ToyNeck(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(8, TEACHER_CHANNELS, 1)

    def forward(self, x: torch.Tensor):
        level = self.lateral(x)
        return [level, level[..., ::2, ::2]]


@MODELS.register_module()
class ToyCameraStudent(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, STUDENT_CHANNELS, 3, padding=1), nn.GroupNorm(2, STUDENT_CHANNELS)
        )
        self.head = nn.Linear(STUDENT_CHANNELS, 3)

    def forward(self, inputs: dict, data_samples: list, mode: str):
        tokens = self.backbone(torch.stack(inputs['camera'])).flatten(2).transpose(1, 2)
        logits = self.head(tokens).mean(1)
        if mode == 'loss':
            labels = torch.tensor([sample.label for sample in data_samples])
            return {'loss_cls': nn.functional.cross_entropy(logits, labels)}
        return [{'logits': row} for row in logits]


@DATASETS.register_module()
class ToyPairs(Dataset):
    def __init__(self, length: int = 8) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(index)
        shared = torch.randn(1, *GRID, generator=generator)
        lidar = torch.cat((shared, torch.randn(3, *GRID, generator=generator)))
        camera = torch.cat((shared, torch.randn(2, *GRID, generator=generator)))
        sample = BaseDataElement(metainfo=dict(token=f'sample-{index}'))
        sample.label = index % 3
        return {'inputs': {'lidar': lidar, 'camera': camera}, 'data_samples': sample}


@METRICS.register_module()
class ToyPairMetric(BaseMetric):
    def process(self, data_batch, data_samples) -> None:
        self.results.extend(data_samples)

    def compute_metrics(self, results) -> dict:
        return {'samples': len(results)}


def make_batch(*indices: int) -> dict:
    """A collated batch of the toy's samples, as a data loader gives it."""
    items = [ToyPairs()[index] for index in indices]
    return {
        'inputs': {name: [item['inputs'][name] for item in items] for name in ('lidar', 'camera')},
        'data_samples': [item['data_samples'] for item in items],
    }
