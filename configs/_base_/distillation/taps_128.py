# Where teacher and student meet: 128 x 128 x 256 BEV maps, rows along y, columns along x. The extent
# lets the two maps be matched in metres.
bev_grid = [128, 128]
bev_extent = [-51.2, -51.2, 51.2, 51.2]

# The paper's teacher, read at the first level of its FPN, the map its transformer reads. Its
# deformable encoder's output on that level is the other sensible place:
# dict(module='pts_bbox_head.transformer.encoder', ...).
teacher = dict(
    config='configs/objectdgcnn_voxel01.py',
    checkpoint='work_dirs/objectdgcnn_voxel01/epoch_20.pth',
    inputs=['points'],
    tap=dict(module='pts_neck', index=0, grid=bev_grid, extent=bev_extent),
)
# The map after the last encoder layer, of the current frame, is what the student's head is given.
student_tap = dict(
    module='pts_bbox_head', source='input', layout='tokens', grid=bev_grid, extent=bev_extent
)
