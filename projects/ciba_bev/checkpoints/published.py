"""Convert published weights to the parameter names and box convention of this project's models.

The heads have the parameter names of their reference implementations, so that little is renamed.
What the published models contain in addition to the detector (loss weights, auxiliary heads, a
teacher) is dropped, and the box convention is converted: before version 1.0, mmdet3d had the width
of a box before its length, and measured yaw clockwise from another axis. With the old w, l, yaw,

    length' = l,  width' = w,  yaw' = -yaw - pi / 2,

so that sin yaw' = -cos yaw and cos yaw' = -sin yaw. These are outputs of a last linear or
convolutional layer, so that exchanging rows and changing signs converts the weights exactly.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

import torch
from torch import Tensor

from ..errors import CibaError, ConfigError
from .matching import copy_weights

BEVFORMER = 'BEVFormer'
OBJECT_DGCNN = 'Object-DGCNN'
CENTERPOINT = 'CenterPoint'
FCOS3D = 'FCOS3D'
IMAGE_BACKBONE = 'an image backbone'

# Models that can be converted, and their architectures.
MODELS = {
    'bevformer': BEVFORMER,
    'object_dgcnn': OBJECT_DGCNN,
    'centerpoint': CENTERPOINT,
    'fcos3d_r50': FCOS3D,
    'fcos3d_r101': FCOS3D,
}

OLD_BOXES = 'mmdet3d < 1.0'
NEW_BOXES = 'mmdet3d >= 1.0'

# The order of the classes in configs/_base_/datasets/nuscenes.py.
NUSCENES_CLASSES = (
    'car',
    'truck',
    'construction_vehicle',
    'bus',
    'trailer',
    'barrier',
    'motorcycle',
    'bicycle',
    'pedestrian',
    'traffic_cone',
)

# The cell about which the reference BEVFormer rotates the previous BEV feature, for any grid.
REFERENCE_ROTATE_CENTER = (100, 100)

# Every pattern must match the beginning of a name; the first architecture that matches counts.
_SIGNATURES = (
    ('BEVFormer v2', (r'fcos3d_bbox_head\.', r'pts_bbox_head\.')),
    (BEVFORMER, (r'pts_bbox_head\.bev_embedding\.', r'pts_bbox_head\.transformer\.can_bus_mlp\.')),
    ('DETR3D', (r'pts_bbox_head\.transformer\.decoder\.layers\.0\.attentions\.1\.position_enc',)),
    ('PETR', (r'pts_bbox_head\.position_encoder\.',)),
    (
        OBJECT_DGCNN,
        (
            r'pts_backbone\.',
            r'pts_bbox_head\.transformer\.encoder\.layers\.0\.attentions\.0\.sampling_offsets\.',
            r'pts_bbox_head\.reg_branches\.',
        ),
    ),
    ('BEVDet', (r'img_view_transformer\.',)),
    ('TransFusion or BEVFusion', (r'(pts_)?bbox_head\.heatmap_head\.',)),
    (CENTERPOINT, (r'pts_bbox_head\.task_heads\.\d+\.(task_head\.)?dim\.',)),
    (
        FCOS3D,
        (r'(img_)?backbone\.layer4\.', r'(pts_)?bbox_head\.conv_(dir_cls|attr|regs)'),
    ),
    ('an anchor-based LiDAR detector', (r'(pts_)?backbone\.', r'(pts_)?bbox_head\.conv_dir_cls\.')),
    ('a two-stage image detector', (r'backbone\.', r'(rpn_head|roi_head)\.')),
    ('an image classifier', (r'layer4\.', r'fc\.')),
    ('a vision transformer', (r'(.*\.)?patch_embed\.',)),
)
_IMAGE_MODULES = {'img_backbone', 'backbone', 'img_neck', 'neck'}

# Not part of the detector: loss weights stored as a parameter, heat maps of BEVDistill's heads.
_HEAD_EXTRAS = re.compile(r'pts_bbox_head\.(code_weights$|shared_conv\.|task_heads\.)')
_BRANCH = re.compile(r'pts_bbox_head\.(cls|reg)_branches\.(\d+)\.(\d+)\.(weight|bias)$')
_CENTER_OUTPUT = re.compile(r'.*task_heads\.\d+\.(?:task_head\.)?(dim|rot)\.\d+\.(?:weight|bias)$')
PILLAR_INPUT_LAYER = 'pts_voxel_encoder.pfn_layers.0.linear.weight'
# The five features of a point in nuScenes, its offset from the mean of its pillar, and its offset
# from the centre of the pillar in x and y.
_OLD_PILLAR_INPUTS = 5 + 3 + 2
# Codes are (cx, cy, w, l, cz, h, sin, cos) and possibly (vx, vy).
_SMALLEST_CODE = 8
_EXAMPLES = 3
# The ResNet of each FCOS3D, and the number of blocks of its third stage.
_RESNETS = {'fcos3d_r50': ('ResNet-50', 6), 'fcos3d_r101': ('ResNet-101', 23)}


@dataclass
class ConvertedWeights:
    """Converted weights and a description of the changes.

    Attributes:
        weights: The state dict, with the names of this project's models.
        changes: Differences from the source, as phrases.
        boxes_converted: Whether the box convention was converted.
        notes: Advice for users of the weights, as sentences.
    """

    weights: OrderedDict[str, Tensor]
    changes: list[str] = field(default_factory=list)
    boxes_converted: bool = False
    notes: list[str] = field(default_factory=list)


def guess_architecture(names: Sequence[str]) -> str:
    """Guess the architecture of a state dict from its names.

    Args:
        names: The names of its entries.

    Returns:
        The name of the architecture, or a description of the modules.
    """
    for architecture, patterns in _SIGNATURES:
        if all(any(re.match(pattern, name) for name in names) for pattern in patterns):
            return architecture
    modules = list(OrderedDict.fromkeys(name.split('.')[0] for name in names))
    if modules and _IMAGE_MODULES.issuperset(modules):
        return IMAGE_BACKBONE
    return f'an unknown model with {", ".join(modules[:6])}' if modules else 'nothing'


def convert_weights(
    weights: Mapping[str, Tensor],
    model: str,
    old_boxes: bool = True,
    classes: Sequence[str] | None = None,
) -> ConvertedWeights:
    """Convert published weights.

    Args:
        weights: The published state dict; not changed.
        model: One of :data:`MODELS`.
        old_boxes: Whether the boxes are in the convention of mmdet3d < 1.0.
        classes: Class names in the order of the published classifier's outputs; None for this
            project's order. Classes other than the ten of nuScenes keep their order.

    Returns:
        The converted weights.

    Raises:
        ConfigError: There is no such model.
        CibaError: The weights are of another architecture; the message names both.
    """
    if model not in MODELS:
        raise ConfigError(f'unknown model {model!r}; choose from {", ".join(MODELS)}.')
    converted = ConvertedWeights(copy_weights(weights))
    _strip_prefix(converted, 'module.')
    if model == 'bevformer':
        # BEVDistill's distiller contains the detector as its student.
        _strip_prefix(converted, 'student.')
    expected = MODELS[model]
    found = guess_architecture(list(converted.weights))
    accepted = (FCOS3D, IMAGE_BACKBONE) if expected == FCOS3D else (expected,)
    if found not in accepted:
        other = [name for name, architecture in MODELS.items() if architecture == found]
        remedy = (
            f'Convert it with --model {other[0]}'
            if other
            else f'Give weights of {expected}; {", ".join(MODELS)} can be converted'
        )
        raise CibaError(
            f'these are weights of {found}, but --model {model} expects {expected}.\n{remedy}.'
        )
    if model in _RESNETS:
        _keep_image_backbone(converted, *_RESNETS[model])
        return converted
    _add_pillar_height(converted)
    if model == 'centerpoint':
        if old_boxes:
            _convert_center_head(converted)
        return converted
    _drop(converted, [name for name in converted.weights if _HEAD_EXTRAS.match(name)])
    if model == 'bevformer':
        _keep_used_levels(converted)
        _note_rotation(converted)
    if old_boxes:
        _convert_codes(converted)
    if classes is not None:
        _reorder_classes(converted, classes)
    return converted


def _drop(converted: ConvertedWeights, names: Sequence[str]) -> None:
    for name in names:
        del converted.weights[name]
    if names:
        shown = ', '.join(names[:_EXAMPLES]) + (', ...' if len(names) > _EXAMPLES else '')
        converted.changes.append(f'{len(names)} dropped ({shown})')


def _rename(converted: ConvertedWeights, names: Mapping[str, str]) -> None:
    """Rename entries; drop the others."""
    _drop(converted, [name for name in converted.weights if name not in names])
    metadata = converted.weights._metadata
    renamed = OrderedDict((names[name], value) for name, value in converted.weights.items())
    modules = {
        name.rpartition('.')[0]: new_name.rpartition('.')[0] for name, new_name in names.items()
    }
    renamed._metadata = OrderedDict(
        (modules[module], value) for module, value in metadata.items() if module in modules
    )
    converted.weights = renamed
    count = sum(name != new_name for name, new_name in names.items())
    if count:
        converted.changes.append(f'{count} names changed')


def _strip_prefix(converted: ConvertedWeights, prefix: str) -> None:
    names = {name: name[len(prefix) :] for name in converted.weights if name.startswith(prefix)}
    if names:
        _rename(converted, names)


def _keep_image_backbone(converted: ConvertedWeights, resnet: str, blocks: int) -> None:
    names = {}
    for name in converted.weights:
        found = re.match(r'(?:img_)?backbone\.(.*)', name)
        if found:
            # In early mmcv, the offsets were not a part of the deformable convolution.
            part = re.sub(r'\.conv2_offset\.', '.conv2.conv_offset.', found.group(1))
            names[name] = f'img_backbone.{part}'
    found_blocks = {name.split('.')[2] for name in names.values() if '.layer3.' in name}
    if len(found_blocks) != blocks:
        raise CibaError(
            f'the third stage of the image backbone has {len(found_blocks)} blocks, that of a '
            f'{resnet} has {blocks}.\nGive an FCOS3D with a {resnet}, or choose the --model of its '
            'depth.'
        )
    _rename(converted, names)
    if not any('.conv_offset.' in name for name in converted.weights):
        converted.notes.append(
            'The backbone has no deformable convolutions: use it for students without dcn in '
            'img_backbone.'
        )


def _keep_used_levels(converted: ConvertedWeights) -> None:
    """Keep the level embeddings that the neck uses; the reference always has four."""
    name = 'pts_bbox_head.transformer.level_embeds'
    levels = {n.split('.')[2] for n in converted.weights if n.startswith('img_neck.fpn_convs.')}
    embeddings = converted.weights.get(name)
    if embeddings is not None and 0 < len(levels) < len(embeddings):
        converted.weights[name] = embeddings[: len(levels)].clone()
        converted.changes.append(f'level_embeds reduced to the {len(levels)} in use')


def _note_rotation(converted: ConvertedWeights) -> None:
    rows, columns = (
        len(converted.weights.get(f'pts_bbox_head.positional_encoding.{axis}_embed.weight', ()))
        for axis in ('row', 'col')
    )
    center_x, center_y = REFERENCE_ROTATE_CENTER
    if (columns / 2, rows / 2) != (center_x, center_y):
        converted.notes.append(
            f'The reference rotates the previous BEV feature about cell {[center_x, center_y]} for '
            f'any grid, here {rows} x {columns}: for its multi-frame results pts_bbox_head needs '
            f'rotate_center={[center_x, center_y]}, as in configs/bevformer_tiny.py.'
        )


def _convert_codes(converted: ConvertedWeights) -> None:
    for name in _last_of_branches(converted.weights, 'reg'):
        rows = converted.weights[name]
        if len(rows) < _SMALLEST_CODE:
            raise CibaError(
                f'{name} has {len(rows)} outputs; expected cx, cy, w, l, cz, h, sin yaw, '
                'cos yaw and possibly vx, vy.'
            )
        converted_rows = rows.clone()
        converted_rows[[2, 3]] = rows[[3, 2]]
        converted_rows[[6, 7]] = -rows[[7, 6]]
        converted.weights[name] = converted_rows
    _note_boxes(converted)


def _convert_center_head(converted: ConvertedWeights) -> None:
    for name, rows in list(converted.weights.items()):
        found = _CENTER_OUTPUT.match(name)
        if found is None:
            continue
        if found.group(1) == 'dim':
            converted.weights[name] = rows[[1, 0, 2]]
        else:
            converted.weights[name] = -rows[[1, 0]]
    _note_boxes(converted)


def _note_boxes(converted: ConvertedWeights) -> None:
    converted.boxes_converted = True
    converted.changes.append('boxes converted')


def _add_pillar_height(converted: ConvertedWeights) -> None:
    weight = converted.weights.get(PILLAR_INPUT_LAYER)
    if weight is not None and weight.size(1) == _OLD_PILLAR_INPUTS:
        converted.weights[PILLAR_INPUT_LAYER] = with_pillar_height(weight)
        converted.changes.append("a zero column for the pillars' offset along z")


def with_pillar_height(weight: Tensor) -> Tensor:
    """Add an input of weight zero, the offset along z, to the first layer of a pillar encoder.

    Since 1.0, mmdet3d describes a point by its offset from the pillar's centre in x, y and z,
    formerly in x and y. The new offset is the last input, so that a column of zeros at the end
    gives the same features.

    Args:
        weight: Weight of the layer, (outputs, inputs).

    Returns:
        The weight with the new column, or unchanged if it has it already.
    """
    if weight.size(1) != _OLD_PILLAR_INPUTS:
        return weight
    return torch.cat((weight, weight.new_zeros(len(weight), 1)), dim=1)


def _reorder_classes(converted: ConvertedWeights, classes: Sequence[str]) -> None:
    classes = tuple(classes)
    if classes == NUSCENES_CLASSES:
        return
    if sorted(classes) != sorted(NUSCENES_CLASSES):
        converted.notes.append(
            f"The classes are not nuScenes' ten and keep their order: {', '.join(classes)}."
        )
        return
    order = torch.tensor([classes.index(name) for name in NUSCENES_CLASSES])
    for name in _last_of_branches(converted.weights, 'cls'):
        converted.weights[name] = converted.weights[name][order]
    converted.changes.append('classes reordered as in the configs')


def _last_of_branches(weights: Mapping[str, Tensor], kind: str) -> list[str]:
    """Return the names of weight and bias of the last layer of every branch of a kind."""
    last: dict[str, int] = {}
    found = [match for match in map(_BRANCH.match, weights) if match and match.group(1) == kind]
    for match in found:
        last[match.group(2)] = max(last.get(match.group(2), 0), int(match.group(3)))
    return [match.group(0) for match in found if int(match.group(3)) == last[match.group(2)]]


def has_old_boxes(meta: Mapping[str, Any]) -> tuple[bool, str]:
    """Find the box convention of weights from the metadata of their checkpoint.

    Args:
        meta: The checkpoint's ``meta``.

    Returns:
        Whether it is that of mmdet3d < 1.0, and the reason. Weights without metadata are assumed to
        be old, because the models that can be converted were published before 1.0.
    """
    version = meta.get('mmdet3d_version')
    if version:
        return str(version).startswith('0.'), f'the file names mmdet3d {version}'
    for key in ('mmengine_version', 'dataset_meta', 'experiment_name'):
        if key in meta:
            return False, 'the file was written by mmengine, so by mmdet3d 1.1 or later'
    return True, 'the file names no version of mmdet3d'
