"""Distilling plain torch modules with torch and mmengine alone, as the README shows it."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[2] / 'README.md'

SETTING = """
import sys
for name in ('mmcv', 'mmdet', 'mmdet3d', 'nuscenes', 'numba', 'matplotlib'):
    sys.modules[name] = None  # as if it were not installed
import torch
from torch import nn

torch.manual_seed(0)
seen_by_both = torch.randn(512, 4)
lidar = torch.cat([seen_by_both, torch.randn(512, 4)], 1)
camera = torch.cat([seen_by_both, torch.randn(512, 4)], 1)
label = (seen_by_both.sum(1) > 0).long()

def network():
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))

def train(model, inputs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), label).backward()
        optimizer.step()
    return model

teacher, undistilled, student = train(network(), lidar), train(network(), camera), network()
loader = [(lidar, camera, label)] * 200
"""

CHECKS = """
import ciba_bev.analysis
with torch.no_grad():
    code = bottleneck.encode(tap.read(teacher, lidar))
    feature = tap.read(student, camera)
    spread = code.var(0).sum()
    assert (feature[:, :4] - code).square().sum(1).mean() < 0.8 * spread
    # The other channels were left alone, and the task was learned beside it.
    assert feature.shape == (512, 32)
    assert (student(camera).argmax(1) == label).float().mean() > 0.9
print('done')
"""


def test_the_example_of_the_readme():
    (example,) = re.findall(r'```python\n(.*?)```', README.read_text(encoding='utf-8'), re.DOTALL)
    run = subprocess.run(
        [sys.executable, '-c', SETTING + example + CHECKS], capture_output=True, text=True
    )
    assert run.stdout.endswith('done\n'), run.stderr
